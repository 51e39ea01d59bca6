output "name" {
  description = "Name of the bucket, once it is closed to the public and has its policy."
  value       = aws_s3_bucket_policy.this.bucket
}

output "arn" {
  description = "ARN of the bucket."
  value       = aws_s3_bucket.this.arn
}
