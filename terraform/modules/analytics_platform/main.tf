# The analytics platform: the service that makes reports, and the app in which people ask questions of Gold.

locals {
  services = {
    report-service = { port = 8000, host = "reports", priority = 20, health_path = "/health" }
    analytics-app  = { port = 8501, host = "analytics", priority = 30, health_path = "/_stcore/health" }
  }
}

module "service" {
  source   = "../web_service"
  for_each = local.services

  name          = each.key
  port          = each.value.port
  host          = each.value.host
  priority      = each.value.priority
  health_path   = each.value.health_path
  image_tag     = lookup(var.image_tags, each.key, null)
  environment   = var.environment
  task_role_arn = var.role_arns[each.key]
  shared        = var.shared
}
