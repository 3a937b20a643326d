output "ingest_url" {
  description = "URL for increments and contributions."
  value       = module.ingest.url
}

output "query_url" {
  description = "URL for totals; its root is the board."
  value       = module.query.url
}

output "try_it" {
  description = "Commands that count one increment and read it."
  value       = <<-EOT
    curl -i -H 'Content-Type: application/json' -d '{"name":"foo","value":4}' ${module.ingest.url}/increments
    curl -s ${module.query.url}/stats
  EOT
}

output "images" {
  description = "Registry path for the images of the three services: <images>/ingest:<image_tag> and so on."
  value       = local.images
}

output "dashboard" {
  description = "URL of the dashboard."
  value       = "https://console.cloud.google.com/monitoring/dashboards/builder/${element(split("/", google_monitoring_dashboard.this.id), -1)}?project=${var.project}"
}
