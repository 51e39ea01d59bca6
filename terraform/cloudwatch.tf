# Logs, alarms, the dashboard, who is told, and the budget.

locals {
  # Namespace of lakehouse.observe.metrics.
  metrics = "Lakehouse"
  jobs = [
    "apply_contracts", "hubspot_to_bronze", "salesforce_to_bronze", "snowflake_to_bronze", "vendor_to_bronze", "fx_to_bronze",
    "kafka_orders_to_bronze", "dq_check_bronze", "bronze_to_silver", "dq_check_silver", "silver_to_gold", "register_glue_tables",
    "emit_lineage_and_metrics", "status_page", "dq_watchdog", "dq_recheck", "reconcile", "backfill", "delta_optimize_vacuum",
  ]
  layer_tables = {
    bronze = ["hubspot_contacts", "salesforce_accounts", "salesforce_leads", "snowflake_orders", "kafka_orders", "vendor_shipments", "fx_rates"]
    silver = ["orders", "fx_rates", "salesforce_accounts", "salesforce_leads", "hubspot_contacts", "vendor_shipments"]
    gold   = ["dim_customers", "dim_fx", "fact_orders"]
  }
  tables = flatten([for layer, names in local.layer_tables : [for name in names : "${layer}.${name}"]])

  log_groups = {
    flow_logs = "/aws/vpc/${local.name}/flow-logs"
    events    = "/aws/events/${local.name}"
  }
}

resource "aws_cloudwatch_log_group" "this" {
  for_each = local.log_groups

  name              = each.value
  retention_in_days = var.log_retention_days
  kms_key_id        = local.key_arn
}

# -- who is told ----------------------------------------------------------------------------------------------

resource "aws_sns_topic" "alerts" {
  name              = "${local.name}-alerts"
  kms_master_key_id = local.key_arn
}

resource "aws_sns_topic_policy" "alerts" {
  arn    = aws_sns_topic.alerts.arn
  policy = data.aws_iam_policy_document.alerts.json
}

data "aws_iam_policy_document" "alerts" {
  statement {
    sid       = "AlarmsAndBudgets"
    actions   = ["sns:Publish"]
    resources = [local.alert_topic]

    principals {
      type        = "Service"
      identifiers = ["cloudwatch.amazonaws.com", "budgets.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [var.account_id]
    }
  }

  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["sns:Publish"]
    resources = [local.alert_topic]

    principals {
      type        = "AWS"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_sns_topic_subscription" "email" {
  for_each = var.alert_emails

  topic_arn = aws_sns_topic.alerts.arn
  protocol  = "email"
  endpoint  = each.value
}

# -- alarms ---------------------------------------------------------------------------------------------------

# Airflow tells of a task that failed; this tells where Airflow itself is silent.
locals {
  failures = merge(
    { for job in local.jobs : "${job}-failed" => {
      metric = "Failures", dimension = { Job = job }, says = "${job} failed. RUNBOOK_AWS_2025.md, 8."
    } },
    { for table in local.tables : "${replace(table, ".", "-")}-gate" => {
      metric = "GateFailures", dimension = { Table = table }, says = "The gate refused ${table}; Gold was not updated. RUNBOOK_AWS_2025.md, 8.2."
    } if !startswith(table, "gold.") },
  )
}

resource "aws_cloudwatch_metric_alarm" "failure" {
  for_each = local.failures

  alarm_name          = "${local.name}-${each.key}"
  alarm_description   = each.value.says
  namespace           = local.metrics
  metric_name         = each.value.metric
  dimensions          = merge({ Environment = var.environment }, each.value.dimension)
  statistic           = "Sum"
  period              = 3600
  evaluation_periods  = 1
  threshold           = 0
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alerts.arn]
}

# A day without a publication, whatever the reason: nothing ran, nothing was sent, or it failed. A job run sends 0 failures
# where it succeeded and 1 where it did not: an hour without a 0 is one without a success.
resource "aws_cloudwatch_metric_alarm" "no_publication" {
  alarm_name          = "${local.name}-no-publication"
  alarm_description   = "silver_to_gold has not succeeded for 26 hours. RUNBOOK_AWS_2025.md, 1."
  namespace           = local.metrics
  metric_name         = "Failures"
  dimensions          = { Environment = var.environment, Job = "silver_to_gold" }
  statistic           = "Minimum"
  period              = 3600
  evaluation_periods  = 26
  datapoints_to_alarm = 26
  threshold           = 0
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "breaching"
  alarm_actions       = [aws_sns_topic.alerts.arn]
  ok_actions          = [aws_sns_topic.alerts.arn]
}

# -- events ---------------------------------------------------------------------------------------------------

resource "aws_cloudwatch_event_rule" "job_run_failed" {
  name        = "${local.name}-emr-job-run-failed"
  description = "A job run of the EMR Serverless application failed"

  event_pattern = jsonencode({
    source      = ["aws.emr-serverless"]
    detail-type = ["EMR Serverless Job Run State Change"]
    detail = {
      applicationId = [aws_emrserverless_application.this.id]
      state         = ["FAILED"]
    }
  })
}

resource "aws_cloudwatch_event_target" "job_run_failed" {
  rule     = aws_cloudwatch_event_rule.job_run_failed.name
  arn      = aws_sns_topic.alerts.arn
  role_arn = aws_iam_role.this["events"].arn

  input_transformer {
    # What the event has; name and reason are the job run's, and not in it.
    input_paths = {
      application = "$.detail.applicationId"
      run         = "$.detail.jobRunId"
      before      = "$.detail.previousState"
    }
    input_template = "\"EMR Serverless: job run <run> failed, it was <before>. Why: aws emr-serverless get-job-run --application-id <application> --job-run-id <run>\""
  }
}

# -- dashboard ------------------------------------------------------------------------------------------------

locals {
  of_jobs   = { for metric in ["Seconds", "Failures"] : metric => [for job in local.jobs : [local.metrics, metric, "Environment", var.environment, "Job", job]] }
  of_tables = { for metric in ["RowsInserted", "RowsQuarantined", "GateFailures"] : metric => [for table in local.tables : [local.metrics, metric, "Environment", var.environment, "Table", table]] }

  # Two beside each other, in this order.
  widgets = [
    { title = "Seconds of each job", stat = "Maximum", period = 3600, metrics = local.of_jobs["Seconds"] },
    { title = "Failures", stat = "Sum", period = 3600, metrics = local.of_jobs["Failures"] },
    { title = "Rows inserted", stat = "Sum", period = 86400, metrics = local.of_tables["RowsInserted"] },
    { title = "Rows quarantined", stat = "Sum", period = 86400, metrics = local.of_tables["RowsQuarantined"] },
    { title = "Gates that refused", stat = "Sum", period = 86400, metrics = local.of_tables["GateFailures"] },
    {
      title   = "EMR Serverless: vCPU in use", stat = "Maximum", period = 300
      metrics = [["AWS/EMRServerless", "CPUAllocated", "ApplicationId", aws_emrserverless_application.this.id]]
    },
  ]
}

resource "aws_cloudwatch_dashboard" "this" {
  dashboard_name = local.name

  dashboard_body = jsonencode({
    widgets = [for i, widget in local.widgets : {
      type       = "metric", x = i % 2 * 12, y = floor(i / 2) * 6, width = 12, height = 6
      properties = merge(widget, { region = var.region, view = "timeSeries" })
    }]
  })
}

# -- budget ---------------------------------------------------------------------------------------------------

resource "aws_budgets_budget" "this" {
  name         = local.name
  budget_type  = "COST"
  time_unit    = "MONTHLY"
  limit_amount = tostring(var.monthly_budget_usd)
  limit_unit   = "USD"

  notification {
    comparison_operator       = "GREATER_THAN"
    notification_type         = "ACTUAL"
    threshold                 = 80
    threshold_type            = "PERCENTAGE"
    subscriber_sns_topic_arns = [aws_sns_topic.alerts.arn]
  }

  notification {
    comparison_operator       = "GREATER_THAN"
    notification_type         = "FORECASTED"
    threshold                 = 100
    threshold_type            = "PERCENTAGE"
    subscriber_sns_topic_arns = [aws_sns_topic.alerts.arn]
  }

  depends_on = [aws_sns_topic_policy.alerts]
}
