variable "name" {
  description = "First part of every name."
  type        = string
}

variable "account_id" {
  description = "The AWS account."
  type        = string
}

variable "region" {
  description = "The Region of the trail."
  type        = string
}

variable "partition" {
  description = "Partition of the ARNs, e.g. aws."
  type        = string
}

variable "kms_key_arn" {
  description = "The key of the trail's files; null leaves them to S3's own."
  type        = string
}

variable "bucket_arns" {
  description = "Buckets of which every access to an object is recorded."
  type        = list(string)
}

variable "log_bucket" {
  description = "Where access logs of the trail's bucket go."
  type        = string
}

variable "log_retention_days" {
  description = "How long the trail's files are kept."
  type        = number
}

variable "force_destroy" {
  description = "Whether destroy removes what the trail's bucket holds."
  type        = bool
}

variable "alert_topic_arn" {
  description = "Who hears of findings."
  type        = string
}

variable "publisher_role_arn" {
  description = "The role that publishes to the topic."
  type        = string
}
