variable "shared" {
  description = "What services have in common: where they run, what they stand behind, their size, encryption and logs."
  type = object({
    region             = string
    vpc_id             = string
    subnet_ids         = list(string)
    execution_role_arn = string
    use_kms            = bool
    kms_key_arn        = string
    log_retention_days = number
    force_destroy      = bool
    front              = object({ cluster_arn = string, listener_arn = string, security_group_id = string })
    web = object({
      domain                 = string
      user_pool_arn          = string
      user_pool_client_id    = string
      user_pool_domain       = string
      service_cpu            = number
      service_memory_mb      = number
      service_cpu_arm64      = bool
      services_desired_count = number
    })
  })
}

variable "role_arns" {
  description = "Role of each service (report-service, analytics-app)."
  type        = map(string)
}

variable "environment" {
  description = "Environment variables of both; no secrets."
  type        = map(string)
}

variable "image_tags" {
  description = "Tag of each service's image; one without has no task running."
  type        = map(string)
}
