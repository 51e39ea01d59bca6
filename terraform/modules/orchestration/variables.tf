variable "name" {
  description = "Name of the environment."
  type        = string
}

variable "airflow_version" {
  description = "Airflow's version."
  type        = string
}

variable "environment_class" {
  description = "Size of scheduler, web server and workers."
  type        = string
}

variable "min_workers" {
  description = "Workers that always run."
  type        = number
}

variable "max_workers" {
  description = "Workers at most."
  type        = number
}

variable "maintenance_start" {
  description = "Start of the weekly maintenance, DAY:HH:MM in UTC."
  type        = string
}

variable "execution_role_arn" {
  description = "Role of the environment."
  type        = string
}

variable "code_bucket_arn" {
  description = "Bucket with dags/."
  type        = string
}

variable "kms_key_arn" {
  description = "Key of the environment and its logs; null: AWS's own."
  type        = string
  default     = null
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "subnet_ids" {
  description = "Two private subnets."
  type        = list(string)
}

variable "log_retention_days" {
  description = "How long its logs are kept."
  type        = number
}
