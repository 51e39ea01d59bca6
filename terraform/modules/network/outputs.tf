output "vpc_id" {
  description = "The VPC."
  value       = aws_vpc.this.id
}

output "private_subnet_ids" {
  description = "The private subnets, in the order of the zones' letters."
  value       = [for letter in var.zone_letters : aws_subnet.private[letter].id]
}

output "private_cidrs" {
  description = "Addresses of the private subnets."
  value       = [for letter in var.zone_letters : local.private_cidrs[letter]]
}

output "public_subnet_ids" {
  description = "The public subnets; none without NAT and load balancer."
  value       = [for letter in var.zone_letters : aws_subnet.public[letter].id if local.has_public]
}

output "nat_addresses" {
  description = "The public addresses from which everything in the private subnets is seen outside; none without NAT."
  value       = [for letter in sort(keys(aws_eip.nat)) : aws_eip.nat[letter].public_ip]
}

output "jobs_security_group_id" {
  description = "Security group of the job runs."
  value       = aws_security_group.jobs.id
}
