# MWAA: private web server, workers in the private subnets, DAGs from the code bucket. No requirements.txt: the image has
# what DAGs import, and with one every worker would ask the network for it when it starts.

locals {
  log_kinds = {
    dag_processing_logs = "DAGProcessing"
    scheduler_logs      = "Scheduler"
    task_logs           = "Task"
    webserver_logs      = "WebServer"
    worker_logs         = "Worker"
  }
}

# MWAA makes these groups by itself, without an end to their retention and without our key.
resource "aws_cloudwatch_log_group" "this" {
  for_each = local.log_kinds

  name              = "airflow-${var.name}-${each.value}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
}

resource "aws_security_group" "this" {
  name        = "${var.name}-airflow"
  description = "MWAA: its components among themselves, HTTPS outwards"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "self" {
  security_group_id            = aws_security_group.this.id
  referenced_security_group_id = aws_security_group.this.id
  ip_protocol                  = "-1"
}

resource "aws_vpc_security_group_egress_rule" "self" {
  security_group_id            = aws_security_group.this.id
  referenced_security_group_id = aws_security_group.this.id
  ip_protocol                  = "-1"
}

resource "aws_vpc_security_group_egress_rule" "https" {
  security_group_id = aws_security_group.this.id
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_mwaa_environment" "this" {
  name               = var.name
  airflow_version    = var.airflow_version
  environment_class  = var.environment_class
  min_workers        = var.min_workers
  max_workers        = var.max_workers
  execution_role_arn = var.execution_role_arn
  kms_key            = var.kms_key_arn
  source_bucket_arn  = var.code_bucket_arn
  dag_s3_path        = "dags/"

  webserver_access_mode           = "PRIVATE_ONLY"
  weekly_maintenance_window_start = var.maintenance_start

  airflow_configuration_options = {
    "core.default_timezone"            = "utc"
    "core.dags_are_paused_at_creation" = "True"
    # DAG files change by deployment only; a shorter interval costs the scheduler's CPU.
    "dag_processor.refresh_interval" = "60"
    "logging.logging_level"          = "INFO"
  }

  network_configuration {
    security_group_ids = [aws_security_group.this.id]
    subnet_ids         = var.subnet_ids
  }

  logging_configuration {
    dag_processing_logs {
      enabled   = true
      log_level = "WARNING"
    }

    scheduler_logs {
      enabled   = true
      log_level = "WARNING"
    }

    task_logs {
      enabled   = true
      log_level = "INFO"
    }

    webserver_logs {
      enabled   = true
      log_level = "WARNING"
    }

    worker_logs {
      enabled   = true
      log_level = "WARNING"
    }
  }

  depends_on = [
    aws_cloudwatch_log_group.this,
    aws_vpc_security_group_ingress_rule.self,
    aws_vpc_security_group_egress_rule.self,
    aws_vpc_security_group_egress_rule.https,
  ]

  timeouts {
    create = "90m"
    update = "120m"
  }
}
