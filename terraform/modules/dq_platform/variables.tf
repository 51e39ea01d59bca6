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

variable "account_id" {
  description = "The account."
  type        = string
}

variable "runner_role_arn" {
  description = "Role of the Lambda."
  type        = string
}

variable "runner_package" {
  description = "Key of its zip in the code bucket, and SHA-256 in base64."
  type        = object({ key = string, sha256_base64 = string })
}

variable "runner_reserved_concurrency" {
  description = "How many of it may run at once, taken out of the account's limit; null: it shares the account's."
  type        = number
  default     = null
}

variable "runner_environment" {
  description = "Environment variables of the Lambda; no secrets."
  type        = map(string)
}

variable "dashboard_role_arn" {
  description = "Role of the dashboard."
  type        = string
}

variable "dashboard_environment" {
  description = "Environment variables of the dashboard; no secrets."
  type        = map(string)
}

variable "image_tag" {
  description = "Tag of the dashboard's image; null: no task runs."
  type        = string
  default     = null
}

variable "code_bucket" {
  description = "Bucket with the Lambda's zip."
  type        = string
}

variable "alert_topic_arn" {
  description = "Who is told of failures."
  type        = string
}
