output "front" {
  description = "Cluster, listener and security group, as the services take them."
  value = {
    cluster_arn       = aws_ecs_cluster.this.arn
    listener_arn      = aws_lb_listener.https.arn
    security_group_id = aws_security_group.this.id
  }
}

output "cluster_name" {
  description = "Name of the cluster."
  value       = aws_ecs_cluster.this.name
}

output "dns_name" {
  description = "Host to which the services' names have to point (CNAME or alias)."
  value       = aws_lb.this.dns_name
}
