# Google asks the services from outside, as strangers would: it sees what their own metrics cannot, such as a domain that leads
# nowhere or a certificate that has expired. Behind a load balancer one address has both.

locals {
  # Ingest answers a GET of what is posted with 405, which shows that it is there, and counts nothing.
  asked = var.uptime_checks ? {
    ingest = { url = local.urls.posting, path = "/increments", status = 405 }
    query  = { url = local.urls.reading, path = "/health/live", status = 200 }
  } : {}
}

resource "google_monitoring_uptime_check_config" "this" {
  for_each = local.asked

  display_name = "${local.title}: ${each.key}"
  period       = "300s"
  timeout      = "10s"

  http_check {
    path         = each.value.path
    port         = 443
    use_ssl      = true
    validate_ssl = true
    accepted_response_status_codes {
      status_value = each.value.status
    }
  }
  monitored_resource {
    type   = "uptime_url"
    labels = { project_id = var.project, host = trimprefix(each.value.url, "https://") }
  }

  depends_on = [google_project_service.this]
}
