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
  runtime       = "python3.12"
  architectures = ["x86_64"]
  handler       = "handler.handler"
  memory_size   = 1024
  timeout       = 900
  kms_key_arn   = var.shared.kms_key_arn

  s3_bucket        = var.code_bucket
  s3_key           = var.runner_package.key
  source_code_hash = var.runner_package.sha256_base64

  reserved_concurrent_executions = var.runner_reserved_concurrency

  environment {
    variables = var.runner_environment
  }

  dead_letter_config {
    target_arn = var.alert_topic_arn
  }

  tracing_config {
    mode = "Active"
  }

  depends_on = [aws_cloudwatch_log_group.runner]
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
  alarm_description   = "The DQ runner failed; its log is ${aws_cloudwatch_log_group.runner.name}"
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

module "dashboard" {
  source = "../web_service"

  name          = "dq-platform-dashboard"
  port          = 8080
  host          = "dq"
  priority      = 10
  image_tag     = var.image_tag
  environment   = var.dashboard_environment
  task_role_arn = var.dashboard_role_arn
  shared        = var.shared
}
