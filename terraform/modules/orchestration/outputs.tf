output "name" {
  description = "Name of the environment."
  value       = aws_mwaa_environment.this.name
}

output "url" {
  description = "Host of the web server, reached from inside the VPC."
  value       = aws_mwaa_environment.this.webserver_url
}
