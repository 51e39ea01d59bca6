# One role a workload, each with what its code does and nothing else. Statements name their resources; where AWS takes no
# name, or only a pattern, iam_exceptions.yaml says why, and a test compares.
#
# A role has up to three inline policies: `access`, whose ARNs are all made of names (so that a plan shows it whole and
# tests can evaluate it), `encryption` (the key) and `application` (EMR Serverless), whose ids AWS gives.

locals {
  lake = local.bucket_arn["lake"]
  code = local.bucket_arn["code"]
  logs = local.bucket_arn["logs"]

  # Landing files of sources. landing/vendor/inbox/ is not among them: the vendor's files are read, never changed.
  landed = [for folder in ["fx", "hubspot", "kafka", "salesforce", "snowflake", "vendor/vendor_shipments"] : "landing/${folder}"]
  # What scripts/release.py uploads: releases, the Python packages that several of them share, and the DQ runner's zips,
  # which Lambda copies when Terraform names one.
  job_prefixes  = ["releases", "python"]
  code_prefixes = concat(local.job_prefixes, ["lambda"])

  # Where a table of Gold may be written: gold/quality/ holds verdicts.
  gold = [for table in local.layer_tables.gold : "gold/${table}"]

  # What the job runs of each role do (dags/common/roles.py says which jobs these are): folders of the lake that they read
  # and write, beside what every run has; whether they create verdicts; whose secrets they read. What people keep in the
  # lake beside it (athena-results/) is nobody's here.
  emr_roles = {
    ingest = {
      reads    = ["landing", "bronze", "silver", "gold/quality", "ops"]
      writes   = concat(local.landed, ["bronze", "ops"])
      verdicts = "none"
      secrets  = ["hubspot", "kafka", "salesforce", "snowflake"]
    }
    transform = {
      reads    = ["landing", "bronze", "silver", "gold", "ops", "reports/status"]
      writes   = concat(["silver", "ops", "reports/status"], local.gold)
      verdicts = "none"
      secrets  = []
    }
    gate = {
      reads    = ["landing", "bronze", "silver", "gold/quality", "ops"]
      writes   = ["ops/dq_verdicts"]
      verdicts = "create"
      secrets  = []
    }
    # Of landing and checkpoints it finds and removes what crashed tries left (lakehouse.flows.leftovers).
    maintain = {
      reads    = ["landing", "bronze", "silver", "gold", "ops"]
      writes   = concat(local.landed, ["bronze", "silver", "ops", "checkpoints"], local.gold)
      verdicts = "create"
      secrets  = []
    }
    recover = {
      reads    = ["landing", "bronze", "silver", "gold", "ops", "checkpoints", "reports/status"]
      writes   = concat(local.landed, ["bronze", "silver", "ops", "checkpoints", "reports/status"], local.gold)
      verdicts = "create"
      secrets  = ["hubspot", "kafka", "salesforce", "snowflake"]
    }
    erase = {
      reads    = ["landing", "bronze", "silver", "gold", "ops", "reports/status"]
      writes   = concat(local.landed, ["bronze", "silver", "ops", "reports/status"], local.gold)
      verdicts = "replace"
      secrets  = []
    }
    # The topic's credentials, its own Bronze table, its dead letters, its checkpoint, its marks.
    stream = {
      reads    = ["gold/quality/bronze.kafka_orders", "ops/_streams"]
      writes   = ["bronze/kafka_orders", "checkpoints/kafka_orders", "ops/kafka_orders_dlq", "ops/_streams/kafka_orders"]
      verdicts = "none"
      secrets  = ["kafka"]
    }
  }

  dq_metrics = "Lakehouse/DataQuality"
  network_interfaces = [
    "ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface", "ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets",
    "ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses",
  ]

  airflow_environment = "${local.arn["airflow"]}:environment/${local.airflow_name}"
  trail_arn           = "arn:${local.partition}:cloudtrail:${var.region}:${var.account_id}:trail/${local.name}-trail"
  alert_topic         = "${local.arn["sns"]}:${local.name}-alerts"
  athena_workgroups   = { for readers, name in local.workgroups : readers => "${local.arn["athena"]}:workgroup/${name}" }
  glue_catalog        = "${local.arn["glue"]}:catalog"
  glue_databases      = { for layer in local.layers : layer => "${local.arn["glue"]}:database/${var.project}_${layer}" }
  glue_tables         = { for layer in local.layers : layer => "${local.arn["glue"]}:table/${var.project}_${layer}/*" }
  dq_runner           = "dq-platform-runner"
  web_services        = ["dq-platform-dashboard", "report-service", "analytics-app"]

  # Who takes a role, and for what of this account.
  emr  = { who = ["emr-serverless.amazonaws.com"], from = "${local.arn["emr-serverless"]}:/applications/*" }
  ecs  = { who = ["ecs-tasks.amazonaws.com"], from = "${local.arn["ecs"]}:*" }
  mwaa = { who = ["airflow.amazonaws.com", "airflow-env.amazonaws.com"], from = local.airflow_environment }
  # A rule takes it to publish; SourceArn is the rule's.
  eventbridge = { who = ["events.amazonaws.com"], from = "${local.arn["events"]}:rule/${local.name}-*" }
  vpc_logs    = { who = ["vpc-flow-logs.amazonaws.com"], from = "arn:${local.partition}:ec2:${var.region}:${var.account_id}:vpc-flow-log/*" }
  # Lambda sends neither account nor function with the call that takes the role.
  lambda = { who = ["lambda.amazonaws.com"], from = null }

  # Each role's policy, and the services through which it may use the key.
  workloads = merge(
    {
      airflow   = merge(local.mwaa, { access = data.aws_iam_policy_document.airflow.json, key_of = ["s3", "sqs", "sns"] })
      flow_logs = merge(local.vpc_logs, { access = data.aws_iam_policy_document.flow_logs.json, key_of = [] })
      events    = merge(local.eventbridge, { access = data.aws_iam_policy_document.events.json, key_of = ["sns"] })
    },
    { for role, does in local.emr_roles : "emr_${role}" => merge(local.emr, {
      access = data.aws_iam_policy_document.emr[role].json
      key_of = concat(["s3", "dynamodb"], length(does.secrets) > 0 ? ["secretsmanager"] : [])
    }) },
    !local.has_services ? {} : {
      services = merge(local.ecs, { access = data.aws_iam_policy_document.services.json, key_of = ["ecr"] })
    },
    !var.enable_dq_platform ? {} : {
      dq_runner    = merge(local.lambda, { access = data.aws_iam_policy_document.dq_runner.json, key_of = ["lambda", "s3", "secretsmanager", "sns"] })
      dq_dashboard = merge(local.ecs, { access = data.aws_iam_policy_document.dq_dashboard.json, key_of = ["s3"] })
    },
    !var.enable_analytics_platform ? {} : {
      report_service = merge(local.ecs, { access = data.aws_iam_policy_document.report_service.json, key_of = ["s3"] })
      analytics_app  = merge(local.ecs, { access = data.aws_iam_policy_document.analytics_app.json, key_of = ["s3"] })
    },
  )
}

data "aws_iam_policy_document" "trust" {
  for_each = local.workloads

  statement {
    sid     = "OnlyThisAccount"
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = each.value.who
    }

    dynamic "condition" {
      for_each = each.value.from == null ? [] : [each.value.from]

      content {
        test     = "ArnLike"
        variable = "aws:SourceArn"
        values   = [condition.value]
      }
    }

    dynamic "condition" {
      for_each = each.value.from == null ? [] : [var.account_id]

      content {
        test     = "StringEquals"
        variable = "aws:SourceAccount"
        values   = [condition.value]
      }
    }
  }
}

resource "aws_iam_role" "this" {
  for_each = local.workloads

  name                 = "${local.name}-${replace(each.key, "_", "-")}"
  assume_role_policy   = data.aws_iam_policy_document.trust[each.key].json
  permissions_boundary = var.permissions_boundary_arn
}

resource "aws_iam_role_policy" "access" {
  for_each = local.workloads

  name   = "access"
  role   = aws_iam_role.this[each.key].id
  policy = each.value.access
}

# -- encryption -----------------------------------------------------------------------------------------------

data "aws_iam_policy_document" "encryption" {
  for_each = local.use_kms ? { for name, workload in local.workloads : name => workload if length(workload.key_of) > 0 } : {}

  statement {
    sid       = "KeyThroughServices"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [aws_kms_key.this[0].arn]

    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = [for service in each.value.key_of : "${service}.${var.region}.amazonaws.com"]
    }
  }
}

resource "aws_iam_role_policy" "encryption" {
  for_each = data.aws_iam_policy_document.encryption

  name   = "encryption"
  role   = aws_iam_role.this[each.key].id
  policy = each.value.json
}

# In a key's policy "*" is the key itself.
data "aws_iam_policy_document" "key" {
  statement {
    sid       = "AccountDecides"
    actions   = ["kms:*"]
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = ["arn:${local.partition}:iam::${var.account_id}:root"]
    }
  }

  statement {
    sid       = "LogGroupsOfThisAccount"
    actions   = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:GenerateDataKey", "kms:DescribeKey"]
    resources = ["*"]

    principals {
      type        = "Service"
      identifiers = ["logs.${var.region}.amazonaws.com"]
    }

    condition {
      test     = "ArnLike"
      variable = "kms:EncryptionContext:aws:logs:arn"
      values   = ["${local.arn["logs"]}:log-group:*"]
    }
  }

  dynamic "statement" {
    for_each = local.has_baseline ? [local.trail_arn] : []

    content {
      sid       = "TrailOfThisAccount"
      actions   = ["kms:GenerateDataKey", "kms:DescribeKey"]
      resources = ["*"]

      principals {
        type        = "Service"
        identifiers = ["cloudtrail.amazonaws.com"]
      }

      condition {
        test     = "StringEquals"
        variable = "aws:SourceArn"
        values   = [statement.value]
      }
    }
  }

  statement {
    sid       = "NoticesToTheEncryptedTopic"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = ["*"]

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

}

# -- what needs the application's id --------------------------------------------------------------------------

data "aws_iam_policy_document" "application" {
  for_each = {
    # What a run cost (lakehouse.observe.cost).
    emr_transform = { application = ["emr-serverless:ListJobRuns"], runs = ["emr-serverless:GetJobRun"] }
    emr_recover   = { application = ["emr-serverless:ListJobRuns"], runs = ["emr-serverless:GetJobRun"] }
    airflow = {
      application = ["emr-serverless:StartJobRun", "emr-serverless:ListJobRuns", "emr-serverless:GetApplication", "emr-serverless:StartApplication"]
      runs        = ["emr-serverless:GetJobRun", "emr-serverless:CancelJobRun"]
    }
  }

  statement {
    sid       = "Application"
    actions   = each.value.application
    resources = [aws_emrserverless_application.this.arn]
  }

  statement {
    sid       = "JobRuns"
    actions   = each.value.runs
    resources = ["${aws_emrserverless_application.this.arn}/jobruns/*"]
  }
}

resource "aws_iam_role_policy" "application" {
  for_each = data.aws_iam_policy_document.application

  name   = "application"
  role   = aws_iam_role.this[each.key].id
  policy = each.value.json
}

# -- EMR: what every job run needs, and what those of each role do ---------------------------------------------

data "aws_iam_policy_document" "emr" {
  for_each = local.emr_roles

  statement {
    sid       = "Release"
    actions   = ["s3:GetObject"]
    resources = [for prefix in local.job_prefixes : "${local.code}/${prefix}/*"]
  }

  statement {
    sid       = "Buckets"
    actions   = ["s3:GetBucketLocation"]
    resources = [local.lake, local.code, local.logs]
  }

  statement {
    sid       = "ListRelease"
    actions   = ["s3:ListBucket"]
    resources = [local.code]
  }

  # The driver's and executors' logs, and what the job leaves behind for Airflow.
  statement {
    sid       = "OwnLogs"
    actions   = ["s3:PutObject", "s3:GetObject"]
    resources = ["${local.logs}/emr/*"]
  }

  statement {
    sid       = "ListLogs"
    actions   = ["s3:ListBucket"]
    resources = [local.logs]

    condition {
      test     = "StringLike"
      variable = "s3:prefix"
      values   = ["emr/*"]
    }
  }

  statement {
    sid       = "Outcome"
    actions   = ["s3:GetObject", "s3:PutObject"]
    resources = ["${local.lake}/runs/*", "${local.lake}/ops/_lineage/*", "${local.lake}/ops/_probe/*"]
  }

  statement {
    sid       = "Metrics"
    actions   = ["cloudwatch:PutMetricData"]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "cloudwatch:namespace"
      values   = [local.metrics]
    }
  }

  # Every job run commits to some Delta table. Nothing asks for it while the log store is that of S3.
  statement {
    sid       = "LogStoreOfTheFallback"
    actions   = ["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:Query", "dynamodb:DescribeTable"]
    resources = ["${local.arn["dynamodb"]}:table/${local.log_store_table}"]
  }

  # Versions too: a table that is missing may have been deleted (lakehouse.delta.log.is_dropped).
  statement {
    sid       = "ListLake"
    actions   = ["s3:ListBucket", "s3:ListBucketVersions"]
    resources = [local.lake]

    condition {
      test     = "StringLike"
      variable = "s3:prefix"
      values   = flatten([for prefix in distinct(concat(each.value.reads, each.value.writes, ["runs", "ops/_lineage", "ops/_probe"])) : [prefix, "${prefix}/*"]])
    }
  }

  statement {
    sid       = "ReadLake"
    actions   = ["s3:GetObject"]
    resources = [for prefix in distinct(concat(each.value.reads, each.value.writes)) : "${local.lake}/${prefix}/*"]
  }

  # An object of a table that is broken is put back from the version that is whole (lakehouse.flows.recovery.repair).
  dynamic "statement" {
    for_each = each.key == "recover" ? [1] : []

    content {
      sid       = "VersionsOfTables"
      actions   = ["s3:GetObjectVersion"]
      resources = [for layer in ["bronze", "silver", "gold", "ops"] : "${local.lake}/${layer}/*"]
    }
  }

  statement {
    sid       = "WriteLake"
    actions   = ["s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]
    resources = [for prefix in each.value.writes : "${local.lake}/${prefix}/*"]
  }

  # A verdict is created, by S3 only with If-None-Match, and replaced by who erases a person alone: it writes the verdicts
  # that quote them anew, without the quotation (lakehouse.flows.recovery.told_person); the bucket keeps the version before.
  dynamic "statement" {
    for_each = each.value.verdicts == "none" ? [] : [each.value.verdicts]

    content {
      sid       = "Verdicts"
      actions   = ["s3:PutObject"]
      resources = ["${local.lake}/gold/quality/*"]

      dynamic "condition" {
        for_each = statement.value == "create" ? [1] : []

        content {
          test     = "Null"
          variable = "s3:if-none-match"
          values   = ["false"]
        }
      }
    }
  }

  # Whatever else is ever allowed: who does not judge writes no verdict, and nobody deletes one.
  statement {
    sid       = "VerdictsStay"
    effect    = "Deny"
    actions   = concat(["s3:DeleteObject", "s3:DeleteObjectVersion"], each.value.verdicts == "none" ? ["s3:PutObject"] : [])
    resources = ["${local.lake}/gold/quality/*"]
  }

  dynamic "statement" {
    for_each = length(each.value.secrets) > 0 ? [1] : []

    content {
      sid       = "Sources"
      actions   = ["secretsmanager:GetSecretValue"]
      resources = [for source in each.value.secrets : local.secret_arn[source]]
    }
  }

  dynamic "statement" {
    for_each = each.key == "transform" ? [1] : []

    content {
      sid = "Catalog"
      actions = [
        "glue:GetDatabase", "glue:GetDatabases", "glue:GetTable", "glue:GetTables", "glue:CreateTable", "glue:UpdateTable",
      ]
      resources = concat([local.glue_catalog], values(local.glue_databases), values(local.glue_tables))
    }
  }

  # What Athena's queries cost (lakehouse.observe.cost).
  dynamic "statement" {
    for_each = contains(["transform", "recover"], each.key) ? [1] : []

    content {
      sid       = "CostOfQueries"
      actions   = ["athena:ListQueryExecutions", "athena:BatchGetQueryExecution"]
      resources = values(local.athena_workgroups)
    }
  }

  # When the last old version of what was erased is gone (lakehouse.flows.recovery.erasures).
  dynamic "statement" {
    for_each = contains(["recover", "erase"], each.key) ? [1] : []

    content {
      sid       = "HowLongVersionsStay"
      actions   = ["s3:GetLifecycleConfiguration", "s3:GetBucketVersioning"]
      resources = [local.lake]
    }
  }
}

# -- Airflow --------------------------------------------------------------------------------------------------

data "aws_iam_policy_document" "airflow" {
  statement {
    sid       = "OwnMetrics"
    actions   = ["airflow:PublishMetrics"]
    resources = [local.airflow_environment]
  }

  statement {
    sid       = "Dags"
    actions   = ["s3:GetObject", "s3:GetObjectVersion"]
    resources = ["${local.code}/dags/*"]
  }

  statement {
    sid       = "CodeBucket"
    actions   = ["s3:ListBucket", "s3:GetBucketLocation", "s3:GetBucketVersioning", "s3:GetBucketPublicAccessBlock", "s3:GetEncryptionConfiguration"]
    resources = [local.code]
  }

  # MWAA asks at its start whether the account is closed to the public.
  statement {
    sid       = "AccountIsClosed"
    actions   = ["s3:GetAccountPublicAccessBlock"]
    resources = ["*"]
  }

  statement {
    sid = "OwnLogs"
    actions = [
      "logs:CreateLogStream", "logs:CreateLogGroup", "logs:PutLogEvents", "logs:GetLogEvents", "logs:GetLogRecord",
      "logs:GetLogGroupFields", "logs:GetQueryResults",
    ]
    resources = ["${local.arn["logs"]}:log-group:airflow-${local.airflow_name}-*"]
  }

  statement {
    sid       = "FindLogGroups"
    actions   = ["logs:DescribeLogGroups", "cloudwatch:PutMetricData"]
    resources = ["*"]
  }

  # The queue is MWAA's, in an account of its own.
  statement {
    sid = "CeleryQueue"
    actions = [
      "sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:GetQueueUrl", "sqs:ReceiveMessage", "sqs:SendMessage",
    ]
    resources = ["arn:${local.partition}:sqs:${var.region}:*:airflow-celery-*"]
  }

  # A job run takes its role from whoever starts it: these, for EMR Serverless, and no other.
  statement {
    sid       = "RolesOfJobRuns"
    actions   = ["iam:PassRole"]
    resources = [for role in keys(local.emr_roles) : "arn:${local.partition}:iam::${var.account_id}:role/${local.name}-emr-${role}"]

    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["emr-serverless.amazonaws.com"]
    }
  }

  statement {
    sid       = "OutcomesAndLogs"
    actions   = ["s3:GetObject"]
    resources = ["${local.lake}/runs/*", "${local.lake}/ops/_streams/*", "${local.logs}/emr/*"]
  }

  # The stream's mark, and a broken checkpoint that is put aside (dags/common/stream.py).
  statement {
    sid       = "StopMark"
    actions   = ["s3:PutObject", "s3:DeleteObject"]
    resources = ["${local.lake}/ops/_streams/kafka_orders/stopped.json"]
  }

  statement {
    sid       = "Checkpoint"
    actions   = ["s3:GetObject", "s3:DeleteObject"]
    resources = ["${local.lake}/checkpoints/kafka_orders/*"]
  }

  statement {
    sid       = "LostCheckpoints"
    actions   = ["s3:PutObject"]
    resources = ["${local.lake}/checkpoints/lost/*"]
  }

  statement {
    sid       = "ListLake"
    actions   = ["s3:ListBucket"]
    resources = [local.lake]

    condition {
      test     = "StringLike"
      variable = "s3:prefix"
      values   = ["runs/*", "ops/_streams/*", "checkpoints/*"]
    }
  }

  statement {
    sid       = "Notices"
    actions   = ["sns:Publish"]
    resources = [local.alert_topic]
  }
}

# -- services -------------------------------------------------------------------------------------------------

data "aws_iam_policy_document" "services" {
  statement {
    sid       = "SignInToTheRegistry"
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"]
  }

  statement {
    sid       = "Images"
    actions   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    resources = [for name in local.web_services : "${local.arn["ecr"]}:repository/${name}"]
  }

  statement {
    sid       = "Logs"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = [for name in local.web_services : "${local.arn["logs"]}:log-group:/ecs/${name}:*"]
  }
}

# Reads what gates and the runner have written. No write of any kind. The bucket of the reports holds nothing else and is
# listed without a condition: under one on the prefix, S3 answers for a report that is not there yet as for a forbidden one.
data "aws_iam_policy_document" "dq_dashboard" {
  statement {
    sid       = "Reports"
    actions   = ["s3:GetObject"]
    resources = ["${local.bucket_arn["dq-reports"]}/reports/*", "${local.lake}/gold/quality/*"]
  }

  statement {
    sid       = "ListReports"
    actions   = ["s3:ListBucket"]
    resources = [local.bucket_arn["dq-reports"]]
  }

  statement {
    sid       = "ListVerdicts"
    actions   = ["s3:ListBucket"]
    resources = [local.lake]

    condition {
      test     = "StringLike"
      variable = "s3:prefix"
      values   = ["gold/quality/*"]
    }
  }
}

# Athena reads tables and writes results as the caller: this is what a reader of Gold needs. A result shows what the tables
# showed: who reads Gold alone has a workgroup, and a place for results, apart from those who read all.
data "aws_iam_policy_document" "athena_gold" {
  statement {
    sid = "Queries"
    actions = [
      "athena:GetQueryExecution", "athena:GetQueryResults", "athena:GetWorkGroup", "athena:StartQueryExecution", "athena:StopQueryExecution",
    ]
    resources = [local.athena_workgroups["gold"]]
  }

  # Athena wants to see this one whatever the query names (Athena, Access to databases and tables in Glue).
  statement {
    sid       = "DefaultDatabase"
    actions   = ["glue:GetDatabase"]
    resources = [local.glue_catalog, "${local.arn["glue"]}:database/default"]
  }

  statement {
    sid       = "Tables"
    actions   = ["glue:GetDatabase", "glue:GetTable", "glue:GetTables", "glue:GetPartitions"]
    resources = [local.glue_catalog, local.glue_databases["gold"], local.glue_tables["gold"]]
  }

  statement {
    sid       = "Data"
    actions   = ["s3:GetObject"]
    resources = ["${local.lake}/gold/*"]
  }

  statement {
    sid       = "Results"
    actions   = ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]
    resources = ["${local.lake}/${local.result_prefixes["gold"]}*"]
  }

  statement {
    sid       = "LakeLocation"
    actions   = ["s3:GetBucketLocation"]
    resources = [local.lake]
  }

  statement {
    sid       = "ListData"
    actions   = ["s3:ListBucket"]
    resources = [local.lake]

    condition {
      test     = "StringLike"
      variable = "s3:prefix"
      values   = ["gold/*", "${local.result_prefixes["gold"]}*"]
    }
  }
}

# It asks Snowflake, and writes what it found; of the lake it sees nothing.
data "aws_iam_policy_document" "dq_runner" {
  statement {
    sid       = "WriteReports"
    actions   = ["s3:GetObject", "s3:PutObject"]
    resources = ["${local.bucket_arn["dq-reports"]}/reports/*"]
  }

  statement {
    sid       = "ListReports"
    actions   = ["s3:ListBucket"]
    resources = [local.bucket_arn["dq-reports"]]
  }

  statement {
    sid       = "Warehouse"
    actions   = ["secretsmanager:GetSecretValue"]
    resources = [local.secret_arn["dq_platform"]]
  }

  statement {
    sid       = "Notices"
    actions   = ["sns:Publish"]
    resources = [local.alert_topic]
  }

  statement {
    sid       = "Metrics"
    actions   = ["cloudwatch:PutMetricData"]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "cloudwatch:namespace"
      values   = [local.dq_metrics]
    }
  }

  statement {
    sid       = "Logs"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${local.arn["logs"]}:log-group:/aws/lambda/${local.dq_runner}:*"]
  }

  # With this role Lambda itself puts the function into the private subnets; the function's own code may not (AWS, Giving
  # Lambda functions access to resources in a VPC).
  statement {
    sid       = "PlaceInTheSubnets"
    actions   = local.network_interfaces
    resources = ["*"]
  }

  statement {
    sid       = "NotByItsCode"
    effect    = "Deny"
    actions   = local.network_interfaces
    resources = ["*"]

    condition {
      test     = "ArnEquals"
      variable = "lambda:SourceFunctionArn"
      values   = ["${local.arn["lambda"]}:function:${local.dq_runner}"]
    }
  }

  statement {
    sid       = "Traces"
    actions   = ["xray:PutTraceSegments", "xray:PutTelemetryRecords"]
    resources = ["*"]
  }
}

data "aws_iam_policy_document" "report_service" {
  source_policy_documents = [data.aws_iam_policy_document.athena_gold.json]

  statement {
    sid       = "WriteReports"
    actions   = ["s3:GetObject", "s3:PutObject"]
    resources = ["${local.bucket_arn["reports"]}/reports/*"]
  }

  statement {
    sid       = "ListReports"
    actions   = ["s3:ListBucket"]
    resources = [local.bucket_arn["reports"]]
  }
}

data "aws_iam_policy_document" "analytics_app" {
  source_policy_documents = [data.aws_iam_policy_document.athena_gold.json]

  statement {
    sid       = "ReadReports"
    actions   = ["s3:GetObject"]
    resources = ["${local.bucket_arn["reports"]}/reports/*"]
  }

  statement {
    sid       = "ListReports"
    actions   = ["s3:ListBucket"]
    resources = [local.bucket_arn["reports"]]
  }
}

data "aws_iam_policy_document" "flow_logs" {
  statement {
    sid       = "FlowLogs"
    actions   = ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"]
    resources = ["${local.arn["logs"]}:log-group:${local.log_groups["flow_logs"]}:*"]
  }

  statement {
    sid       = "FindLogGroups"
    actions   = ["logs:DescribeLogGroups"]
    resources = ["*"]
  }
}

# The rule that tells of failed job runs takes this role to publish.
data "aws_iam_policy_document" "events" {
  statement {
    sid       = "Notices"
    actions   = ["sns:Publish"]
    resources = [local.alert_topic]
  }
}
