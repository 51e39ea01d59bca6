# Both majors of the provider read these files (modules/: what only one of them knows is not used). What is deployed is
# one version, named here: a lock file would hold hashes of one platform. CI tests another (ci.yml).
terraform {
  required_version = ">= 1.11.0, < 2.0.0"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "5.100.0"
    }
  }

  # Bucket, key and Region come from `make init` (docs/deployment.md). S3 keeps the lock itself, by a conditional write:
  # no DynamoDB table is needed. Checks and tests run with -backend=false.
  backend "s3" {
    use_lockfile = true
    encrypt      = true
  }
}

provider "aws" {
  region = var.region

  # A plan with credentials of another account stops here.
  allowed_account_ids = [var.account_id]

  default_tags {
    tags = merge(
      {
        Project     = var.project
        Environment = var.environment
        ManagedBy   = "terraform"
      },
      var.tags,
    )
  }
}
