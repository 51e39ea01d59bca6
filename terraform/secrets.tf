# The secrets' names and who may read them. Values are put by their owners (runbook 2.3) and are in no file and no state:
# there is no aws_secretsmanager_secret_version here, and a test keeps it so.

locals {
  # A user of TYPE=SERVICE signs in by key pair or by token; Snowflake is withdrawing passwords (runbook 8.9).
  snowflake_proof = "private_key (private_key_passphrase where it is encrypted), token or password"
  secrets = {
    hubspot     = { name = "${var.project}/hubspot/credentials", fields = "token" }
    kafka       = { name = "${var.project}/kafka/credentials", fields = "bootstrap_servers, api_key, api_secret, group_id" }
    salesforce  = { name = "${var.project}/salesforce/credentials", fields = "instance_url, client_id, client_secret" }
    snowflake   = { name = "${var.project}/snowflake/credentials", fields = "account, username, warehouse, database, schema and one of ${local.snowflake_proof}" }
    dq_platform = { name = "snowflake/dq-platform-credentials", fields = "account, user, role, warehouse and one of ${local.snowflake_proof}" }
  }

  # Secrets Manager adds a dash and six characters to the name.
  secret_arn = { for key, secret in local.secrets : key => "${local.arn["secretsmanager"]}:secret:${secret.name}-??????" }
}

resource "aws_secretsmanager_secret" "this" {
  for_each = local.secrets

  name        = each.value.name
  description = "JSON with the fields ${each.value.fields}"
  kms_key_id  = local.key_arn
  # A deleted secret can be restored for a month; where everything may be lost its name is free again at once.
  recovery_window_in_days = var.force_destroy ? 0 : 30
}

resource "aws_secretsmanager_secret_rotation" "this" {
  for_each = var.secret_rotation_lambda_arns

  secret_id           = aws_secretsmanager_secret.this[each.key].id
  rotation_lambda_arn = each.value
  # The first rotation is started by the secret's owner, once there is a value to rotate.
  rotate_immediately = false

  rotation_rules {
    automatically_after_days = var.secret_rotation_days
  }
}
