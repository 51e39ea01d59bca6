# What the files promise, planned with a mock of AWS: no account, no network. `make terraform-check` runs it.

mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" }
  }

  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
}

variables {
  account_id  = "123456789012"
  environment = "dev"
  web = {
    certificate_arn     = "arn:aws:acm:eu-central-1:123456789012:certificate/0"
    domain              = "data.example.com"
    allowed_cidrs       = ["203.0.113.0/24"]
    user_pool_arn       = "arn:aws:cognito-idp:eu-central-1:123456789012:userpool/0"
    user_pool_client_id = "0"
    user_pool_domain    = "lakehouse"
  }
}

# Each run plans everything anew: what the same variables show is asserted in one.

run "by_default" {
  command = plan

  assert {
    condition     = length(module.front) + length(module.dq_platform) + length(module.analytics_platform) + length(module.orchestration) == 0
    error_message = "Airflow and the services have to be off until somebody enables them."
  }

  assert {
    condition     = toset(keys(aws_iam_role.this)) == setunion([for role in keys(local.emr_roles) : "emr_${role}"], ["airflow", "events", "flow_logs"])
    error_message = "A service that is off must have no role."
  }

  assert {
    condition     = toset([for d in aws_glue_catalog_database.this : d.name]) == toset(["lakehouse_bronze", "lakehouse_silver", "lakehouse_gold", "lakehouse_ops"])
    error_message = "lakehouse.settings.GlueSettings names these databases."
  }

  assert {
    condition     = aws_athena_workgroup.this["all"].name == "lakehouse"
    error_message = "lakehouse.settings.AthenaSettings names this workgroup."
  }

  assert {
    condition = alltrue([
      for readers, other in { all = "gold", gold = "all" } :
      !startswith(local.result_prefixes[readers], local.result_prefixes[other]) && startswith(local.result_prefixes[readers], "athena-results/")
    ])
    error_message = "Who reads Gold must not find the results of those who read everything."
  }

  assert {
    condition = toset([for s in aws_secretsmanager_secret.this : s.name]) == toset([
      "lakehouse/hubspot/credentials", "lakehouse/kafka/credentials", "lakehouse/salesforce/credentials",
      "lakehouse/snowflake/credentials", "snowflake/dq-platform-credentials",
    ])
    error_message = "config/*.yaml and the DQ platform name these secrets."
  }

  assert {
    condition     = aws_dynamodb_table.log_store.hash_key == "tablePath" && aws_dynamodb_table.log_store.range_key == "fileName"
    error_message = "S3DynamoDBLogStore needs these keys."
  }

  assert {
    condition     = aws_emrserverless_application.this.release_label == "emr-spark-8.2.0" && aws_emrserverless_application.this.architecture == "X86_64"
    error_message = "The jobs are written for this release."
  }

  assert {
    condition     = length(aws_emrserverless_application.this.initial_capacity) == 0
    error_message = "Warm workers cost by the hour: none unless asked for."
  }

  assert {
    condition     = one(aws_emrserverless_application.this.auto_stop_configuration).enabled
    error_message = "An idle application has to stop."
  }

  assert {
    condition     = alltrue([for w in aws_athena_workgroup.this : one(w.configuration).enforce_workgroup_configuration && one(w.configuration).bytes_scanned_cutoff_per_query == 100000000000])
    error_message = "A client must not be able to lift the scan limit."
  }

  assert {
    condition     = alltrue([for w in aws_athena_workgroup.this : one(one(one(w.configuration).result_configuration).encryption_configuration).encryption_option == "SSE_KMS"])
    error_message = "Results are as sensitive as the tables."
  }

  assert {
    condition     = alltrue([for prefix in keys(local.lake_expiry) : !anytrue([for p in ["bronze/", "silver/", "gold/", "ops/"] : startswith(prefix, p)]) || prefix == "ops/_lineage/"])
    error_message = "A file of a Delta table is live at any age."
  }

  assert {
    condition     = !contains(keys(local.lake_expiry), "landing/vendor/inbox/") && !contains(keys(local.lake_expiry), "landing/") && !contains(keys(local.lake_expiry), "checkpoints/")
    error_message = "The inbox is the vendor's, a live checkpoint is needed at any age."
  }

  assert {
    condition = alltrue([
      for s in data.aws_iam_policy_document.airflow.statement :
      one(s.condition).values == tolist(["emr-serverless.amazonaws.com"]) && one(s.condition).variable == "iam:PassedToService" if contains(s.actions, "iam:PassRole")
    ])
    error_message = "PassRole without the service it is for."
  }

  # EventBridge sends no source with what it publishes as itself, so that a condition on it would lose the notice.
  assert {
    condition = alltrue([
      for s in concat(data.aws_iam_policy_document.key.statement, data.aws_iam_policy_document.alerts.statement) :
      !anytrue([for p in s.principals : contains(p.identifiers, "events.amazonaws.com")])
    ])
    error_message = "EventBridge publishes by a role, not by the topic's and the key's policies."
  }

  assert {
    condition     = length(module.account_baseline) == 0
    error_message = "dev has the account's baseline only where somebody asks for it."
  }

  assert {
    condition = alltrue([
      for s in concat(data.aws_iam_policy_document.key.statement, data.aws_iam_policy_document.alerts.statement) :
      [for c in s.condition : c.variable] == ["aws:SourceAccount"] if anytrue([for p in s.principals : contains(p.identifiers, "cloudwatch.amazonaws.com")])
    ])
    error_message = "Alarms and budgets publish for this account only."
  }

  assert {
    condition     = [aws_cloudwatch_metric_alarm.no_publication.metric_name, aws_cloudwatch_metric_alarm.no_publication.statistic, aws_cloudwatch_metric_alarm.no_publication.treat_missing_data] == ["Failures", "Minimum", "breaching"]
    error_message = "A job run that failed must not silence the alarm: it sends Seconds as one that succeeded does."
  }
}

run "what_is_asked_for" {
  command = plan

  variables {
    emr_initial_workers      = { drivers = 1, executors = 3 }
    emr_image_uri            = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/spark:1.0"
    nat_gateways             = 0
    interface_endpoints      = ["athena", "emr-serverless", "glue", "kms", "logs", "monitoring", "secretsmanager", "sts"]
    permissions_boundary_arn = "arn:aws:iam::123456789012:policy/boundary"
  }

  assert {
    condition     = { for c in aws_emrserverless_application.this.initial_capacity : c.initial_capacity_type => one(c.initial_capacity_config).worker_count } == { Driver = 1, Executor = 3 }
    error_message = "One driver and three executors were asked for."
  }

  assert {
    condition     = one(aws_emrserverless_application.this.image_configuration).image_uri == "123456789012.dkr.ecr.eu-central-1.amazonaws.com/spark:1.0"
    error_message = "The image was asked for."
  }

  assert {
    condition     = length(module.network.public_subnet_ids) == 0 && length(module.network.private_subnet_ids) == 2
    error_message = "Without NAT and services nothing is public."
  }

  assert {
    condition     = alltrue([for role in aws_iam_role.this : role.permissions_boundary == "arn:aws:iam::123456789012:policy/boundary"])
    error_message = "A role without the boundary."
  }
}

run "without_a_key_of_our_own" {
  command = plan

  variables {
    encryption = "AES256"
  }

  assert {
    condition     = length(aws_kms_key.this) == 0 && length(aws_iam_role_policy.encryption) == 0
    error_message = "AES256 needs neither key nor permission."
  }

  assert {
    condition     = alltrue([for w in aws_athena_workgroup.this : one(one(one(w.configuration).result_configuration).encryption_configuration).encryption_option == "SSE_S3"])
    error_message = "Results are encrypted all the same."
  }
}

run "services_when_enabled" {
  command = plan

  variables {
    enable_dq_platform        = true
    enable_analytics_platform = true
    dq_runner_package         = { key = "lambda/0123456789abcdef/dq_runner.zip", sha256_base64 = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=" }
  }

  assert {
    condition     = output.services.urls == tomap({ dq-platform-dashboard = "https://dq.data.example.com", report-service = "https://reports.data.example.com", analytics-app = "https://analytics.data.example.com" })
    error_message = "Three services have three names."
  }

  assert {
    condition     = module.dq_platform[0].runner_name == "dq-platform-runner"
    error_message = "The runner's name is fixed."
  }

  assert {
    condition     = length(aws_iam_role.this) == 15
    error_message = "One role a workload."
  }
}

# Each alone: the services off, so that it is this and nothing else that is refused.
run "refuses_no_way_out_where_airflow_needs_one" {
  command = plan

  variables {
    enable_orchestration = true
    nat_gateways         = 0
    interface_endpoints  = ["athena", "emr-serverless", "glue", "kms", "logs", "monitoring", "secretsmanager", "sts"]
  }

  expect_failures = [var.nat_gateways]
}

run "refuses_workers_that_emr_has_not" {
  command = plan

  variables {
    emr_worker = { cpu = 4, memory_gb = 32, disk_gb = 20 }
  }

  expect_failures = [var.emr_worker]
}

run "takes_the_largest_worker" {
  command = plan

  variables {
    emr_worker          = { cpu = 16, memory_gb = 120, disk_gb = 200 }
    emr_initial_workers = { drivers = 1, executors = 1 }
  }

  assert {
    condition     = alltrue([for c in aws_emrserverless_application.this.initial_capacity : one(one(c.initial_capacity_config).worker_configuration).memory == "120 GB"])
    error_message = "120 GB with 16 vCPU is a size of EMR Serverless."
  }
}

run "prod_has_the_baseline_of_an_account" {
  command = plan

  variables {
    environment = "prod"
  }

  assert {
    condition     = length(module.account_baseline) == 1
    error_message = "CloudTrail, GuardDuty and Access Analyzer are on in prod."
  }
}

run "unless_the_organisation_has_it" {
  command = plan

  variables {
    environment      = "prod"
    account_baseline = false
  }

  assert {
    condition     = length(module.account_baseline) == 0
    error_message = "An account of an organisation that has all this needs no second trail."
  }
}

# One that is not refused fails the run, as "missing expected failure".
run "refuses_what_cannot_be" {
  command = plan

  variables {
    account_id                = "12345"
    environment               = "staging"
    enable_dq_platform        = true
    enable_analytics_platform = true
    web                       = null
    image_tags                = { report-service = "latest" }
    emr_initial_workers       = { drivers = 1, executors = 0 }
    emr_maximum_capacity      = { cpu = 4, memory_gb = 16, disk_gb = 20 }
    emr_release_label         = "emr-7.14.0"
    airflow_version           = "2.11.0"
    mwaa                      = { environment_class = "mw1.micro", min_workers = 1, max_workers = 2, maintenance_start = "SUN:10:00" }
    emr_worker                = { cpu = 8, memory_gb = 18, disk_gb = 20 }
  }

  expect_failures = [
    var.account_id,
    var.environment,
    var.enable_dq_platform,
    var.enable_analytics_platform,
    var.image_tags,
    var.emr_initial_workers,
    var.emr_maximum_capacity,
    var.emr_release_label,
    var.airflow_version,
    var.mwaa,
    var.emr_worker,
  ]
}
