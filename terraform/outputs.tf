locals {
  balanced_url = var.load_balancer == null ? null : "https://${var.load_balancer.domain}"
  urls = {
    posting = try(coalesce(local.balanced_url, one(module.single[*].url), one(module.ingest[*].url)), null)
    reading = try(coalesce(local.balanced_url, one(module.single[*].url), one(module.query[*].url)), null)
  }
}

output "ingest_url" {
  description = "URL for increments and contributions."
  value       = local.urls.posting
}

output "query_url" {
  description = "URL for totals; its root is the board."
  value       = local.urls.reading
}

output "try_it" {
  description = "Commands that count one increment and read it."
  value       = <<-EOT
    curl -i -H 'Content-Type: application/json' -d '{"name":"foo","value":4}' ${local.urls.posting}/increments
    curl -s ${local.urls.reading}/stats
  EOT
}

output "images" {
  description = "Registry path for the images of the three services: <images>/ingest:<image_tag> and so on."
  value       = local.images
}

output "dashboard" {
  description = "URL of the dashboard."
  value       = local.dashboard
}

output "public" {
  description = "Who may call, and what bounds what it costs. docs/abuse.md has figures."
  value = join(" ", [
    contains(setunion(var.invokers.ingest, var.invokers.query), "allUsers") ? "Anyone may post and read." : "Only the members in invokers may call.",
    var.load_balancer == null ? "Nothing limits the rate of one caller." : "One address makes ${var.load_balancer.requests_per_minute} requests a minute at most.",
    var.budget == null ? "No budget tells of the cost." : "A budget of ${var.budget.amount} a month tells of the cost.",
  ])
}

output "address" {
  description = "Address of the load balancer, for the domain's A record; null without one."
  value       = one(google_compute_global_address.this[*].address)
}

output "builder" {
  description = "Account that builds run as, for gcloud builds submit --service-account; null with a registry of another state."
  value       = one(google_service_account.builder[*].name)
}

output "sources" {
  description = "Bucket for the sources of builds, for gcloud builds submit --gcs-source-staging-dir."
  value       = one([for b in google_storage_bucket.sources : "gs://${b.name}/sources"])
}

output "revisions" {
  description = "The latest revision of ingest and query, which a canary names as the stable one."
  value       = { ingest = one(module.ingest[*].revision), query = one(module.query[*].revision) }
}
