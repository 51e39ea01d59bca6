variable "name" {
  description = "Name of the bucket."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.name))
    error_message = "name has to be 3 to 63 lower-case letters, digits and dashes."
  }
}

variable "partition" {
  description = "Partition of the ARNs, e.g. aws."
  type        = string
}

variable "use_kms" {
  description = "Encrypt with kms_key_arn; otherwise with S3's own keys."
  type        = bool
}

variable "kms_key_arn" {
  description = "The key, where use_kms."
  type        = string
  default     = null
}

variable "force_destroy" {
  description = "Whether destroy removes what the bucket holds."
  type        = bool
}

variable "log_access" {
  description = "Whether access to the bucket is logged, in log_bucket."
  type        = bool
  default     = true
  nullable    = false
}

variable "log_bucket" {
  description = "Where access logs go, with log_access."
  type        = string
  default     = null
}

variable "policies" {
  description = "JSON of policies beside TlsOnly."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "noncurrent_version_days" {
  description = "How long overwritten and deleted objects are kept."
  type        = number
}

variable "expire_after_days" {
  description = "Days by prefix after which objects expire. Only what is listed below may: a file of a Delta table is live at any age."
  type        = map(number)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for prefix, days in var.expire_after_days : endswith(prefix, "/") && days >= 1])
    error_message = "expire_after_days maps prefixes that end with / to 1 day or more."
  }

  validation {
    condition = alltrue([
      for prefix in keys(var.expire_after_days) :
      can(regex("^(AWSLogs|athena-results|checkpoints/lost|emr|landing/(fx|hubspot|kafka|salesforce|snowflake|vendor/vendor_shipments)|load-balancer|logs|ops/_lineage|reports/status|runs|s3)/", prefix))
    ])
    error_message = "expire_after_days may reach athena-results/, checkpoints/lost/, landing/<source>/, logs/, ops/_lineage/, reports/status/ and runs/, and of logs AWSLogs/, emr/, load-balancer/ and s3/: not Delta tables, live checkpoints or the vendor's inbox."
  }
}
