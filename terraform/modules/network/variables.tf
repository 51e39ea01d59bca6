variable "name" {
  description = "Name of the VPC and first part of the names in it."
  type        = string
}

variable "region" {
  description = "The Region."
  type        = string
}

variable "cidr" {
  description = "Addresses of the VPC."
  type        = string
}

variable "zone_letters" {
  description = "Letters of the two availability zones."
  type        = list(string)

  validation {
    condition     = length(var.zone_letters) == 2
    error_message = "zone_letters has to be two letters."
  }
}

variable "nat_gateways" {
  description = "0, 1 for both zones, or 2."
  type        = number
}

variable "needs_public_subnets" {
  description = "Whether something besides NAT, a load balancer, needs public subnets."
  type        = bool
}

variable "interface_endpoints" {
  description = "AWS services that get an interface endpoint."
  type        = set(string)
}

variable "kafka_ports" {
  description = "Ports of Kafka brokers that jobs connect to."
  type        = set(number)
}

variable "flow_log_group_arn" {
  description = "Log group of the flow logs."
  type        = string
}

variable "flow_log_role_arn" {
  description = "Role that writes them."
  type        = string
}
