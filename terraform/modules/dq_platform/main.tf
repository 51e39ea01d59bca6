# The DQ platform: a Lambda that runs the checks every morning, and the dashboard that shows their reports.

resource "aws_cloudwatch_log_group" "runner" {
  name              = "/aws/lambda/dq-platform-runner"
  retention_in_days = var.shared.log_retention_days
  kms_key_id        = var.shared.kms_key_arn
}

resource "aws_lambda_function" "runner" {
  function_name = "dq-platform-runner"
  description   = "Runs the data quality checks and writes their reports"
  role          = var.runner_role_arn
  # scripts/runner_package.py builds the zip for this Python and architecture, and says why.
  runtime       = "python3.12"
  architectures = ["x86_64"]
  handler       = "run_automatic_dq_checks.main"
  memory_size   = 1769 # one whole vCPU (AWS, Lambda quotas)
  timeout       = 900
  kms_key_arn   = var.shared.kms_key_arn

  s3_bucket        = var.code_bucket
  s3_key           = var.runner_package.key
  source_code_hash = var.runner_package.sha256_base64

  reserved_concurrent_executions = var.runner_reserved_concurrency

  environment {
    variables = var.runner_environment
  }

  # Snowflake sees the address of the NAT: a network policy can name it, and a programmatic access token needs one.
  vpc_config {
    subnet_ids         = var.shared.subnet_ids
    security_group_ids = [aws_security_group.runner.id]
  }

  dead_letter_config {
    target_arn = var.alert_topic_arn
  }

  tracing_config {
    mode = "Active"
  }

  depends_on = [aws_cloudwatch_log_group.runner]
}

resource "aws_security_group" "runner" {
  name        = "dq-platform-runner"
  description = "dq-platform-runner: HTTPS outwards, to Snowflake and AWS"
  vpc_id      = var.shared.vpc_id
}

resource "aws_vpc_security_group_egress_rule" "runner" {
  security_group_id = aws_security_group.runner.id
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_cloudwatch_event_rule" "daily" {
  name                = "dq-platform-daily-schedule"
  description         = "06:00 UTC, every day"
  schedule_expression = "cron(0 6 * * ? *)"
}

resource "aws_cloudwatch_event_target" "daily" {
  rule = aws_cloudwatch_event_rule.daily.name
  arn  = aws_lambda_function.runner.arn

  retry_policy {
    maximum_event_age_in_seconds = 3600
    maximum_retry_attempts       = 2
  }
}

resource "aws_lambda_permission" "daily" {
  statement_id   = "DailySchedule"
  action         = "lambda:InvokeFunction"
  function_name  = aws_lambda_function.runner.function_name
  principal      = "events.amazonaws.com"
  source_arn     = aws_cloudwatch_event_rule.daily.arn
  source_account = var.account_id
}

resource "aws_cloudwatch_metric_alarm" "runner" {
  alarm_name          = "dq-platform-runner-errors"
  alarm_description   = "The DQ runner failed. RUNBOOK_AWS_2025.md, 8.20."
  namespace           = "AWS/Lambda"
  metric_name         = "Errors"
  dimensions          = { FunctionName = aws_lambda_function.runner.function_name }
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 1
  threshold           = 0
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = [var.alert_topic_arn]
}

# The schedule is off, or Lambda cannot start it: nothing fails then, and nothing is checked.
resource "aws_cloudwatch_metric_alarm" "silent" {
  alarm_name          = "dq-platform-runner-silent"
  alarm_description   = "The DQ runner has not run for 26 hours. RUNBOOK_AWS_2025.md, 8.20."
  namespace           = "AWS/Lambda"
  metric_name         = "Invocations"
  dimensions          = { FunctionName = aws_lambda_function.runner.function_name }
  statistic           = "Sum"
  period              = 3600
  evaluation_periods  = 26
  datapoints_to_alarm = 26
  threshold           = 1
  comparison_operator = "LessThanThreshold"
  treat_missing_data  = "breaching"
  alarm_actions       = [var.alert_topic_arn]
  ok_actions          = [var.alert_topic_arn]
}

module "dashboard" {
  source = "../web_service"

  name          = "dq-platform-dashboard"
  port          = 8080
  health_path   = "/_stcore/health"
  host          = "dq"
  priority      = 10
  image_tag     = var.image_tag
  environment   = var.dashboard_environment
  task_role_arn = var.dashboard_role_arn
  shared        = var.shared
}
