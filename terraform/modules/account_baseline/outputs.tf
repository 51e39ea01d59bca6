output "trail_arn" {
  description = "The trail."
  value       = aws_cloudtrail.this.arn
}

output "trail_bucket" {
  description = "The bucket of the trail's files."
  value       = module.bucket.name
}
