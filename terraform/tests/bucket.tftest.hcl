# The bucket module by itself: what is not listed never expires.

mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" }
  }
}

variables {
  name                    = "lakehouse-dev-lake-123456789012"
  partition               = "aws"
  use_kms                 = true
  kms_key_arn             = "arn:aws:kms:eu-central-1:123456789012:key/0"
  force_destroy           = false
  log_bucket              = "logs"
  noncurrent_version_days = 30
}

run "closed_versioned_encrypted" {
  command = plan

  module {
    source = "./modules/bucket"
  }

  assert {
    condition     = one(aws_s3_bucket_versioning.this.versioning_configuration).status == "Enabled"
    error_message = "What was deleted by mistake has to come back."
  }

  assert {
    condition     = alltrue([aws_s3_bucket_public_access_block.this.block_public_acls, aws_s3_bucket_public_access_block.this.block_public_policy, aws_s3_bucket_public_access_block.this.ignore_public_acls, aws_s3_bucket_public_access_block.this.restrict_public_buckets])
    error_message = "All four doors have to be closed."
  }

  assert {
    condition     = one(one(aws_s3_bucket_server_side_encryption_configuration.this.rule).apply_server_side_encryption_by_default).sse_algorithm == "aws:kms"
    error_message = "Encrypted with the key."
  }

  assert {
    condition     = one(data.aws_iam_policy_document.this.statement).effect == "Deny" && one(one(data.aws_iam_policy_document.this.statement).condition).variable == "aws:SecureTransport"
    error_message = "TLS only."
  }
}

run "refuses_to_expire_tables" {
  command = plan

  module {
    source = "./modules/bucket"
  }

  variables {
    expire_after_days = { "silver/orders/" = 30 }
  }

  expect_failures = [var.expire_after_days]
}

run "refuses_to_expire_ops_tables" {
  command = plan

  module {
    source = "./modules/bucket"
  }

  variables {
    expire_after_days = { "ops/row_ledger/" = 30 }
  }

  expect_failures = [var.expire_after_days]
}

run "refuses_to_expire_live_checkpoints" {
  command = plan

  module {
    source = "./modules/bucket"
  }

  variables {
    expire_after_days = { "checkpoints/" = 30 }
  }

  expect_failures = [var.expire_after_days]
}

run "refuses_to_expire_everything" {
  command = plan

  module {
    source = "./modules/bucket"
  }

  variables {
    expire_after_days = { "/" = 30 }
  }

  expect_failures = [var.expire_after_days]
}

run "refuses_to_expire_landing_as_a_whole" {
  command = plan

  module {
    source = "./modules/bucket"
  }

  variables {
    expire_after_days = { "landing/" = 30 }
  }

  expect_failures = [var.expire_after_days]
}

run "refuses_to_expire_the_vendors_inbox" {
  command = plan

  module {
    source = "./modules/bucket"
  }

  variables {
    expire_after_days = { "landing/vendor/inbox/" = 30 }
  }

  expect_failures = [var.expire_after_days]
}

run "refuses_to_expire_what_nobody_has_thought_of" {
  command = plan

  module {
    source = "./modules/bucket"
  }

  variables {
    expire_after_days = { "somewhere/new/" = 30 }
  }

  expect_failures = [var.expire_after_days]
}

run "expires_what_is_listed" {
  command = plan

  module {
    source = "./modules/bucket"
  }

  variables {
    expire_after_days = { "landing/vendor/vendor_shipments/" = 400, "runs/" = 400, "emr/" = 30 }
  }

  assert {
    condition     = length(aws_s3_bucket_lifecycle_configuration.this.rule) == 4
    error_message = "A rule for each, and one for old versions."
  }
}
