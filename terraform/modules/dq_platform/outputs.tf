output "url" {
  description = "Where the dashboard is."
  value       = module.dashboard.url
}

output "repository_url" {
  description = "Where its image is pushed."
  value       = module.dashboard.repository_url
}

output "service_name" {
  description = "ECS service of the dashboard."
  value       = module.dashboard.service_name
}

output "runner_name" {
  description = "Name of the Lambda."
  value       = aws_lambda_function.runner.function_name
}
