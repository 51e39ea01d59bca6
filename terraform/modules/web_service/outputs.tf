output "url" {
  description = "Where people find it."
  value       = "https://${local.host}"
}

output "repository_url" {
  description = "Where its image is pushed."
  value       = aws_ecr_repository.this.repository_url
}

output "service_name" {
  description = "Name of the ECS service."
  value       = aws_ecs_service.this.name
}
