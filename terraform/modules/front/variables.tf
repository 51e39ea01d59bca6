variable "name" {
  description = "Name of the cluster and the load balancer."
  type        = string
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "public_subnet_ids" {
  description = "Subnets of the load balancer."
  type        = list(string)
}

variable "private_cidrs" {
  description = "Addresses of the subnets in which the services run."
  type        = list(string)
}

variable "allowed_cidrs" {
  description = "Addresses that may connect."
  type        = list(string)
}

variable "certificate_arn" {
  description = "Certificate of the services' names."
  type        = string
}

variable "deletion_protection" {
  description = "Whether the load balancer refuses to be deleted."
  type        = bool
}

variable "log_bucket" {
  description = "Where its access logs go."
  type        = string
}
