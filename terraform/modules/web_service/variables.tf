variable "name" {
  description = "Name of the service, its repository and its log group."
  type        = string
}

variable "port" {
  description = "Port the container listens on."
  type        = number
}

variable "health_path" {
  description = "Path that answers 200 while the service is well."
  type        = string
  default     = "/health"
}

variable "host" {
  description = "First part of the name under which it is reached; the domain is the rest."
  type        = string
}

variable "priority" {
  description = "Place of its rule on the listener, unique among the services."
  type        = number
}

variable "image_tag" {
  description = "Tag of the image; null: no task runs."
  type        = string
  default     = null
}

variable "environment" {
  description = "Environment variables of the container; no secrets."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "task_role_arn" {
  description = "Role of the code in the container."
  type        = string
}

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
