output "urls" {
  description = "Where the services are."
  value       = { for name, service in module.service : name => service.url }
}

output "repository_urls" {
  description = "Where their images are pushed."
  value       = { for name, service in module.service : name => service.repository_url }
}

output "service_names" {
  description = "Their ECS services."
  value       = [for service in module.service : service.service_name]
}
