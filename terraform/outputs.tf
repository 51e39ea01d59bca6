output "deployment" {
  description = "What DAGs and scripts/emr_submit.sh have to know, by the names of dags/common/settings.py. scripts/release.py ships it with the DAGs."
  value = {
    AWS_REGION             = var.region
    LAKE_BUCKET            = module.bucket["lake"].name
    CODE_BUCKET            = module.bucket["code"].name
    EMR_APPLICATION_ID     = aws_emrserverless_application.this.id
    EMR_INGEST_ROLE_ARN    = aws_iam_role.this["emr_ingest"].arn
    EMR_TRANSFORM_ROLE_ARN = aws_iam_role.this["emr_transform"].arn
    EMR_GATE_ROLE_ARN      = aws_iam_role.this["emr_gate"].arn
    EMR_MAINTAIN_ROLE_ARN  = aws_iam_role.this["emr_maintain"].arn
    EMR_RECOVER_ROLE_ARN   = aws_iam_role.this["emr_recover"].arn
    EMR_ERASE_ROLE_ARN     = aws_iam_role.this["emr_erase"].arn
    EMR_STREAM_ROLE_ARN    = aws_iam_role.this["emr_stream"].arn
    EMR_LOG_URI            = "s3://${module.logs.name}/emr/"
    ALERT_TOPIC_ARN        = aws_sns_topic.alerts.arn
    KAFKA_MODE             = var.kafka_mode
  }
}

output "environment" {
  description = "dev or prod: which file of config/ the jobs read."
  value       = var.environment
}

output "buckets" {
  description = "Names of the buckets, by use."
  value = {
    lake       = module.bucket["lake"].name
    code       = module.bucket["code"].name
    logs       = module.logs.name
    dq_reports = module.bucket["dq-reports"].name
    reports    = module.bucket["reports"].name
  }
}

output "glue_databases" {
  description = "Databases of the catalog, by layer."
  value       = { for layer, database in aws_glue_catalog_database.this : layer => database.name }
}

output "athena_workgroups" {
  description = "Workgroups for SQL, by who reads: every layer, or Gold."
  value       = { for readers, workgroup in aws_athena_workgroup.this : readers => workgroup.name }
}

output "secret_names" {
  description = "Secrets that wait for their values (runbook 2.3)."
  value       = sort([for secret in aws_secretsmanager_secret.this : secret.name])
}

output "nat_addresses" {
  description = "Addresses that sources see. Snowflake's network policy of the service user has to allow them; a token needs such a policy."
  value       = module.network.nat_addresses
}

output "role_arns" {
  description = "Roles, by workload."
  value       = { for name, role in aws_iam_role.this : name => role.arn }
}

output "airflow" {
  description = "Name and host of MWAA; null without it."
  value       = var.enable_orchestration ? { name = module.orchestration[0].name, url = module.orchestration[0].url } : null
}

output "trail" {
  description = "CloudTrail's trail and its bucket; null without the account's baseline."
  value       = local.has_baseline ? { arn = module.account_baseline[0].trail_arn, bucket = module.account_baseline[0].trail_bucket } : null
}

output "services" {
  description = "Cluster, load balancer, tasks a service, addresses and repositories of what is enabled."
  value = {
    cluster       = local.has_services ? module.front[0].cluster_name : null
    load_balancer = local.has_services ? module.front[0].dns_name : null
    desired_count = local.has_services ? var.web.services_desired_count : null
    urls = merge(
      var.enable_dq_platform ? { dq-platform-dashboard = module.dq_platform[0].url } : {},
      var.enable_analytics_platform ? module.analytics_platform[0].urls : {},
    )
    repositories = merge(
      var.enable_dq_platform ? { dq-platform-dashboard = module.dq_platform[0].repository_url } : {},
      var.enable_analytics_platform ? module.analytics_platform[0].repository_urls : {},
    )
  }
}
