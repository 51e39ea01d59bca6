# The lakehouse in one account: encryption, network, EMR Serverless, catalog, Airflow, and the services.
# Buckets are in s3.tf, roles in iam.tf, secrets in secrets.tf, logs, alarms and budget in cloudwatch.tf.

data "aws_partition" "current" {}

locals {
  name      = "${var.project}-${var.environment}"
  partition = data.aws_partition.current.partition
  # First part of the ARN of something in this Region and account, by service.
  arn = { for service in [
    "airflow", "athena", "cloudwatch", "dynamodb", "ecr", "ecs", "emr-serverless", "events", "glue", "kms", "lambda", "logs", "secretsmanager", "sns",
  ] : service => "arn:${local.partition}:${service}:${var.region}:${var.account_id}" }

  use_kms = var.encryption == "aws:kms"
  key_arn = local.use_kms ? aws_kms_key.this[0].arn : null

  layers          = ["bronze", "silver", "gold", "ops"]
  log_store_table = "${var.project}_delta_log"
  airflow_name    = var.project

  # Athena's workgroups by who uses them: those who read every layer, and those who read Gold.
  workgroups      = { all = var.project, gold = "${var.project}-gold" }
  result_prefixes = { for readers, name in local.workgroups : readers => "athena-results/${name}/" }

  has_services = var.enable_dq_platform || var.enable_analytics_platform

  # What runs in the VPC asks these services, by NAT or by an endpoint.
  services_asked = setunion(
    ["athena", "emr-serverless", "glue", "kms", "logs", "monitoring", "secretsmanager", "sts"],
    var.enable_orchestration ? ["airflow.api", "airflow.env", "airflow.ops", "ecr.api", "ecr.dkr", "sns", "sqs"] : [],
    local.has_services ? ["ecr.api", "ecr.dkr"] : [],
    var.enable_dq_platform ? ["sns"] : [],
  )
}

# -- encryption -----------------------------------------------------------------------------------------------

resource "aws_kms_key" "this" {
  count = local.use_kms ? 1 : 0

  description             = "${local.name}: data, secrets, logs and notices"
  enable_key_rotation     = true
  deletion_window_in_days = 30
  policy                  = data.aws_iam_policy_document.key.json
}

resource "aws_kms_alias" "this" {
  count = local.use_kms ? 1 : 0

  name          = "alias/${local.name}"
  target_key_id = aws_kms_key.this[0].key_id
}

# -- network --------------------------------------------------------------------------------------------------

module "network" {
  source = "./modules/network"

  name                 = local.name
  region               = var.region
  cidr                 = var.vpc_cidr
  zone_letters         = var.availability_zones
  nat_gateways         = var.nat_gateways
  needs_public_subnets = local.has_services
  interface_endpoints  = var.interface_endpoints
  kafka_ports          = var.kafka_ports
  flow_log_group_arn   = aws_cloudwatch_log_group.this["flow_logs"].arn
  flow_log_role_arn    = aws_iam_role.this["flow_logs"].arn
}

# -- EMR Serverless -------------------------------------------------------------------------------------------

# One application for the batch jobs and the stream: what a job run is (BATCH or STREAMING, its role, its logs, its
# retries, its size in emr_configs/sizes.yaml) is said by each submission. Only attributes that provider 5.100 knows:
# scheduler_configuration, which would let job runs wait for each other, is of 6.16.
resource "aws_emrserverless_application" "this" {
  name          = local.name
  type          = "spark"
  release_label = var.emr_release_label
  architecture  = var.emr_architecture

  dynamic "initial_capacity" {
    for_each = { for kind, count in { Driver = var.emr_initial_workers.drivers, Executor = var.emr_initial_workers.executors } : kind => count if count > 0 }

    content {
      initial_capacity_type = initial_capacity.key

      initial_capacity_config {
        worker_count = initial_capacity.value

        worker_configuration {
          cpu    = "${var.emr_worker.cpu} vCPU"
          memory = "${var.emr_worker.memory_gb} GB"
          disk   = "${var.emr_worker.disk_gb} GB"
        }
      }
    }
  }

  maximum_capacity {
    cpu    = "${var.emr_maximum_capacity.cpu} vCPU"
    memory = "${var.emr_maximum_capacity.memory_gb} GB"
    disk   = "${var.emr_maximum_capacity.disk_gb} GB"
  }

  auto_start_configuration {
    enabled = true
  }

  auto_stop_configuration {
    enabled              = true
    idle_timeout_minutes = var.emr_auto_stop_minutes
  }

  network_configuration {
    subnet_ids         = module.network.private_subnet_ids
    security_group_ids = [module.network.jobs_security_group_id]
  }

  dynamic "image_configuration" {
    for_each = var.emr_image_uri == null ? [] : [var.emr_image_uri]

    content {
      image_uri = image_configuration.value
    }
  }
}

# -- catalog and SQL ------------------------------------------------------------------------------------------

# Tables are registered by the daily run, from the Delta logs; Terraform owns the databases alone.
resource "aws_glue_catalog_database" "this" {
  for_each = toset(local.layers)

  name         = "${var.project}_${each.key}"
  description  = "${title(each.key)} of the lakehouse (${var.environment})"
  location_uri = "s3://${module.bucket["lake"].name}/${each.key}/"
}

resource "aws_athena_workgroup" "this" {
  for_each = local.workgroups

  name          = each.value
  description   = "SQL over ${each.key == "all" ? "the lakehouse" : "Gold"} (${var.environment})"
  force_destroy = var.force_destroy

  configuration {
    enforce_workgroup_configuration    = true
    publish_cloudwatch_metrics_enabled = true
    bytes_scanned_cutoff_per_query     = var.athena_scan_limit_gb * 1000000000

    engine_version {
      selected_engine_version = "Athena engine version 3"
    }

    result_configuration {
      output_location       = "s3://${module.bucket["lake"].name}/${local.result_prefixes[each.key]}"
      expected_bucket_owner = var.account_id

      encryption_configuration {
        encryption_option = local.use_kms ? "SSE_KMS" : "SSE_S3"
        kms_key_arn       = local.key_arn
      }
    }
  }
}

# For S3DynamoDBLogStore, where S3 is not S3 (docs/deployment.md, Delta on S3). Empty and free of charge otherwise.
resource "aws_dynamodb_table" "log_store" {
  name                        = local.log_store_table
  billing_mode                = "PAY_PER_REQUEST"
  hash_key                    = "tablePath"
  range_key                   = "fileName"
  deletion_protection_enabled = !var.force_destroy

  attribute {
    name = "tablePath"
    type = "S"
  }

  attribute {
    name = "fileName"
    type = "S"
  }

  ttl {
    attribute_name = "expireTime"
    enabled        = true
  }

  point_in_time_recovery {
    enabled = true
  }

  server_side_encryption {
    enabled     = local.use_kms
    kms_key_arn = local.key_arn
  }
}

# -- the account ----------------------------------------------------------------------------------------------

locals {
  has_baseline = coalesce(var.account_baseline, var.environment == "prod")
}

module "account_baseline" {
  source = "./modules/account_baseline"
  count  = local.has_baseline ? 1 : 0

  name               = local.name
  account_id         = var.account_id
  region             = var.region
  partition          = local.partition
  kms_key_arn        = local.key_arn
  bucket_arns        = [local.bucket_arn["lake"], local.bucket_arn["code"]]
  log_bucket         = module.logs.name
  log_retention_days = var.log_retention_days
  force_destroy      = var.force_destroy
  alert_topic_arn    = aws_sns_topic.alerts.arn
  publisher_role_arn = aws_iam_role.this["events"].arn
}

# -- Airflow --------------------------------------------------------------------------------------------------

module "orchestration" {
  source = "./modules/orchestration"
  count  = var.enable_orchestration ? 1 : 0

  name               = local.airflow_name
  airflow_version    = var.airflow_version
  environment_class  = var.mwaa.environment_class
  min_workers        = var.mwaa.min_workers
  max_workers        = var.mwaa.max_workers
  maintenance_start  = var.mwaa.maintenance_start
  execution_role_arn = aws_iam_role.this["airflow"].arn
  code_bucket_arn    = module.bucket["code"].arn
  kms_key_arn        = local.key_arn
  vpc_id             = module.network.vpc_id
  subnet_ids         = module.network.private_subnet_ids
  log_retention_days = var.log_retention_days

  # MWAA checks at its start that its role may read the bucket.
  depends_on = [aws_iam_role_policy.access, aws_iam_role_policy.encryption, aws_iam_role_policy.application]
}

# -- services -------------------------------------------------------------------------------------------------

module "front" {
  source = "./modules/front"
  count  = local.has_services ? 1 : 0

  name                = local.name
  vpc_id              = module.network.vpc_id
  public_subnet_ids   = module.network.public_subnet_ids
  private_cidrs       = module.network.private_cidrs
  allowed_cidrs       = var.web.allowed_cidrs
  certificate_arn     = var.web.certificate_arn
  deletion_protection = var.web.deletion_protection
  log_bucket          = module.logs.name
}

locals {
  # What the services have in common (modules/web_service).
  shared = !local.has_services ? null : {
    region             = var.region
    vpc_id             = module.network.vpc_id
    subnet_ids         = module.network.private_subnet_ids
    execution_role_arn = aws_iam_role.this["services"].arn
    use_kms            = local.use_kms
    kms_key_arn        = local.key_arn
    log_retention_days = var.log_retention_days
    force_destroy      = var.force_destroy
    front              = module.front[0].front
    web                = var.web
  }
}

module "dq_platform" {
  source = "./modules/dq_platform"
  count  = var.enable_dq_platform ? 1 : 0

  shared          = local.shared
  account_id      = var.account_id
  code_bucket     = module.bucket["code"].name
  alert_topic_arn = aws_sns_topic.alerts.arn

  runner_role_arn             = aws_iam_role.this["dq_runner"].arn
  runner_package              = var.dq_runner_package
  runner_reserved_concurrency = var.dq_runner_reserved_concurrency
  runner_environment = {
    S3_DQ_REPORTS_BUCKET  = module.bucket["dq-reports"].name
    SNOWFLAKE_SECRET_NAME = aws_secretsmanager_secret.this["dq_platform"].name
    ALERT_TOPIC_ARN       = aws_sns_topic.alerts.arn
  }

  dashboard_role_arn = aws_iam_role.this["dq_dashboard"].arn
  dashboard_environment = {
    S3_DQ_REPORTS_BUCKET = module.bucket["dq-reports"].name
    LAKE_BUCKET          = module.bucket["lake"].name
  }
  image_tag = lookup(var.image_tags, "dq-platform-dashboard", null)

  depends_on = [aws_iam_role_policy.access, aws_iam_role_policy.encryption]
}

module "analytics_platform" {
  source = "./modules/analytics_platform"
  count  = var.enable_analytics_platform ? 1 : 0

  shared = local.shared
  role_arns = {
    report-service = aws_iam_role.this["report_service"].arn
    analytics-app  = aws_iam_role.this["analytics_app"].arn
  }
  environment = {
    ATHENA_WORKGROUP = aws_athena_workgroup.this["gold"].name
    ATHENA_DATABASE  = aws_glue_catalog_database.this["gold"].name
    REPORTS_BUCKET   = module.bucket["reports"].name
  }
  image_tags = var.image_tags

  depends_on = [aws_iam_role_policy.access, aws_iam_role_policy.encryption]
}
