# What every account with data of people in it has, whatever runs there: a record of who did what, of who read which object
# of the lake, somebody who looks at it, and no way to the public. Nothing of the lakehouse depends on it.

locals {
  trail     = "${var.name}-trail"
  trail_arn = "arn:${var.partition}:cloudtrail:${var.region}:${var.account_id}:trail/${local.trail}"
  bucket    = "${var.name}-trail-${var.account_id}"
}

# -- who did what ---------------------------------------------------------------------------------------------

module "bucket" {
  source = "../bucket"

  name                    = local.bucket
  partition               = var.partition
  use_kms                 = false # CloudTrail encrypts each file with its own data key
  force_destroy           = var.force_destroy
  log_bucket              = var.log_bucket
  policies                = [data.aws_iam_policy_document.trail.json]
  noncurrent_version_days = var.log_retention_days
  expire_after_days       = { "AWSLogs/" = var.log_retention_days }
}

data "aws_iam_policy_document" "trail" {
  statement {
    sid       = "TrailLooks"
    actions   = ["s3:GetBucketAcl"]
    resources = ["arn:${var.partition}:s3:::${local.bucket}"]

    principals {
      type        = "Service"
      identifiers = ["cloudtrail.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceArn"
      values   = [local.trail_arn]
    }
  }

  statement {
    sid       = "TrailWrites"
    actions   = ["s3:PutObject"]
    resources = ["arn:${var.partition}:s3:::${local.bucket}/AWSLogs/${var.account_id}/*"]

    principals {
      type        = "Service"
      identifiers = ["cloudtrail.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceArn"
      values   = [local.trail_arn]
    }
  }
}

resource "aws_cloudtrail" "this" {
  name                       = local.trail
  s3_bucket_name             = module.bucket.name
  kms_key_id                 = var.kms_key_arn
  is_multi_region_trail      = true
  enable_log_file_validation = true

  advanced_event_selector {
    name = "Management events"

    field_selector {
      field  = "eventCategory"
      equals = ["Management"]
    }
  }

  # Who read, wrote or deleted which object; job logs and access logs are not among them.
  advanced_event_selector {
    name = "Objects of the lake and of releases"

    field_selector {
      field  = "eventCategory"
      equals = ["Data"]
    }

    field_selector {
      field  = "resources.type"
      equals = ["AWS::S3::Object"]
    }

    field_selector {
      field       = "resources.ARN"
      starts_with = [for arn in var.bucket_arns : "${arn}/"]
    }
  }
}

# -- who looks at it ------------------------------------------------------------------------------------------

resource "aws_guardduty_detector" "this" {
  enable                       = true
  finding_publishing_frequency = "FIFTEEN_MINUTES"
}

resource "aws_guardduty_detector_feature" "s3" {
  detector_id = aws_guardduty_detector.this.id
  name        = "S3_DATA_EVENTS"
  status      = "ENABLED"
}

# High and critical: 7 and more.
resource "aws_cloudwatch_event_rule" "finding" {
  name        = "${var.name}-guardduty-finding"
  description = "GuardDuty found something of high severity"

  event_pattern = jsonencode({
    source      = ["aws.guardduty"]
    detail-type = ["GuardDuty Finding"]
    detail      = { severity = [{ numeric = [">=", 7] }] }
  })
}

resource "aws_cloudwatch_event_target" "finding" {
  rule     = aws_cloudwatch_event_rule.finding.name
  arn      = var.alert_topic_arn
  role_arn = var.publisher_role_arn

  input_transformer {
    input_paths = {
      type     = "$.detail.type"
      severity = "$.detail.severity"
      region   = "$.region"
      id       = "$.detail.id"
    }
    input_template = "\"GuardDuty: <type>, severity <severity>, in <region>, finding <id>. docs/deployment.md, 3\""
  }
}

# Whatever is shared with somebody outside of the account.
resource "aws_accessanalyzer_analyzer" "this" {
  analyzer_name = var.name
  type          = "ACCOUNT"
}

# -- no way to the public -------------------------------------------------------------------------------------

resource "aws_s3_account_public_access_block" "this" {
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_ebs_encryption_by_default" "this" {
  enabled = true
}

resource "aws_iam_account_password_policy" "this" {
  minimum_password_length        = 16
  require_lowercase_characters   = true
  require_numbers                = true
  require_symbols                = true
  require_uppercase_characters   = true
  allow_users_to_change_password = true
  max_password_age               = 90
  password_reuse_prevention      = 24
}
