output "ingest_url" {
  description = "Where increments and contributions are posted."
  value       = module.ingest.url
}

output "query_url" {
  description = "Where totals are read; its root is the board."
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
  description = "Where the images of the three services are pushed: <images>/ingest:<image_tag> and so on."
  value       = local.images
}

output "dashboard" {
  description = "Where the dashboard is."
  value       = "https://console.cloud.google.com/monitoring/dashboards/builder/${element(split("/", google_monitoring_dashboard.this.id), -1)}?project=${var.project}"
}
