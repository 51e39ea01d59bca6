# Five buckets. Their names are known before they exist, so that policies can name them.

locals {
  buckets    = { for use in ["lake", "code", "logs", "dq-reports", "reports"] : use => "${local.name}-${use}-${var.account_id}" }
  bucket_arn = { for use, name in local.buckets : use => "arn:${local.partition}:s3:::${name}" }

  # Only what no Delta table holds. Landing files have the age that the contracts' landingRetention says; the vendor's
  # inbox is the vendor's. Checkpoints of the live stream never expire: an idle stream's are old and needed.
  lake_expiry = merge(
    { for folder in ["fx", "hubspot", "kafka", "salesforce", "snowflake", "vendor/vendor_shipments"] :
    "landing/${folder}/" => var.landing_retention_days },
    {
      "athena-results/"   = 30
      "checkpoints/lost/" = 90
      "logs/"             = var.log_retention_days
      "ops/_lineage/"     = var.outcome_retention_days
      "reports/status/"   = var.outcome_retention_days
      "runs/"             = var.outcome_retention_days
    },
  )
}

# Releases in the code bucket are immutable and named by their content; none is removed by age: the one in use may be old.
module "bucket" {
  source   = "./modules/bucket"
  for_each = { for use, name in local.buckets : use => name if use != "logs" }

  name                    = each.value
  partition               = local.partition
  use_kms                 = local.use_kms
  kms_key_arn             = local.key_arn
  force_destroy           = var.force_destroy
  log_bucket              = module.logs.name
  policies                = each.key == "code" ? [data.aws_iam_policy_document.releases_stay.json] : []
  noncurrent_version_days = var.noncurrent_version_days
  expire_after_days       = each.key == "lake" ? local.lake_expiry : {}
}

# What a job run was started with it finds until its end, and what runs is what was built: nobody replaces or removes an
# object of a release, whatever else they may do. An upload in parts is decided when it is completed; its parts carry no
# condition (S3, Enforce conditional writes). To remove old releases, a person first changes this.
data "aws_iam_policy_document" "releases_stay" {
  statement {
    sid       = "ReleasesAreCreated"
    effect    = "Deny"
    actions   = ["s3:PutObject"]
    resources = [for prefix in local.code_prefixes : "${local.code}/${prefix}/*"]

    principals {
      type        = "AWS"
      identifiers = ["*"]
    }

    condition {
      test     = "Null"
      variable = "s3:if-none-match"
      values   = ["true"]
    }

    condition {
      test     = "Bool"
      variable = "s3:ObjectCreationOperation"
      values   = ["true"]
    }
  }

  statement {
    sid       = "ReleasesStay"
    effect    = "Deny"
    actions   = ["s3:DeleteObject", "s3:DeleteObjectVersion"]
    resources = [for prefix in local.code_prefixes : "${local.code}/${prefix}/*"]

    principals {
      type        = "AWS"
      identifiers = ["*"]
    }
  }
}

# S3 and load balancers deliver logs only to buckets with S3's own encryption.
module "logs" {
  source = "./modules/bucket"

  name                    = local.buckets["logs"]
  partition               = local.partition
  use_kms                 = false
  force_destroy           = var.force_destroy
  log_access              = false
  policies                = [data.aws_iam_policy_document.log_delivery.json]
  noncurrent_version_days = var.noncurrent_version_days
  expire_after_days       = { for prefix in ["emr/", "load-balancer/", "s3/"] : prefix => var.log_retention_days }
}

data "aws_iam_policy_document" "log_delivery" {
  # Each bucket's log goes below its own name, and nowhere else.
  dynamic "statement" {
    for_each = { for use, name in local.buckets : use => name if use != "logs" }

    content {
      sid       = "AccessLogOf${replace(title(replace(statement.key, "-", " ")), " ", "")}"
      actions   = ["s3:PutObject"]
      resources = ["${local.bucket_arn["logs"]}/s3/${statement.value}/*"]

      principals {
        type        = "Service"
        identifiers = ["logging.s3.amazonaws.com"]
      }

      condition {
        test     = "ArnLike"
        variable = "aws:SourceArn"
        values   = [local.bucket_arn[statement.key]]
      }

      condition {
        test     = "StringEquals"
        variable = "aws:SourceAccount"
        values   = [var.account_id]
      }
    }
  }

  statement {
    sid       = "AccessLogsOfLoadBalancers"
    actions   = ["s3:PutObject"]
    resources = ["${local.bucket_arn["logs"]}/load-balancer/AWSLogs/${var.account_id}/*"]

    principals {
      type        = "Service"
      identifiers = ["logdelivery.elasticloadbalancing.amazonaws.com"]
    }

    condition {
      test     = "ArnLike"
      variable = "aws:SourceArn"
      values   = ["arn:${local.partition}:elasticloadbalancing:${var.region}:${var.account_id}:loadbalancer/app/${local.name}/*"]
    }
  }
}
