# An external load balancer with a rate limit for each client address. With it the services take requests from it alone: their
# addresses under run.app are closed.

locals {
  balanced = var.load_balancer == null ? [] : local.single ? ["accrue"] : ["ingest", "query"]
  reading  = local.single ? "accrue" : "query"
  posting  = local.single ? "accrue" : "ingest"
}

resource "google_compute_security_policy" "this" {
  count = var.load_balancer == null ? 0 : 1

  name        = "${local.prefix}accrue"
  description = "At most ${var.load_balancer.requests_per_minute} requests a minute from one address."

  rule {
    action   = "throttle"
    priority = 1000
    match {
      versioned_expr = "SRC_IPS_V1"
      config {
        src_ip_ranges = ["*"]
      }
    }
    rate_limit_options {
      conform_action = "allow"
      exceed_action  = "deny(429)"
      enforce_on_key = "IP"
      rate_limit_threshold {
        count        = var.load_balancer.requests_per_minute
        interval_sec = 60
      }
    }
  }
  rule {
    action   = "allow"
    priority = 2147483647
    match {
      versioned_expr = "SRC_IPS_V1"
      config {
        src_ip_ranges = ["*"]
      }
    }
  }

  depends_on = [google_project_service.this]
}

resource "google_compute_region_network_endpoint_group" "this" {
  for_each = toset(local.balanced)

  name                  = "${local.prefix}accrue-${each.value}"
  region                = var.region
  network_endpoint_type = "SERVERLESS"

  cloud_run {
    service = "${local.prefix}${each.value}"
  }

  depends_on = [google_project_service.this, module.ingest, module.query, module.single]
}

resource "google_compute_backend_service" "this" {
  for_each = toset(local.balanced)

  name                  = "${local.prefix}accrue-${each.value}"
  load_balancing_scheme = "EXTERNAL_MANAGED"
  security_policy       = google_compute_security_policy.this[0].id

  backend {
    group = google_compute_region_network_endpoint_group.this[each.value].id
  }
}

resource "google_compute_url_map" "this" {
  count = var.load_balancer == null ? 0 : 1

  name            = "${local.prefix}accrue"
  default_service = google_compute_backend_service.this[local.reading].id

  host_rule {
    hosts        = ["*"]
    path_matcher = "accrue"
  }
  path_matcher {
    name            = "accrue"
    default_service = google_compute_backend_service.this[local.reading].id

    path_rule {
      paths   = ["/increments", "/increments/*", "/contributions", "/contributions/*"]
      service = google_compute_backend_service.this[local.posting].id
    }
  }
}

resource "google_compute_managed_ssl_certificate" "this" {
  count = var.load_balancer == null ? 0 : 1

  name = "${local.prefix}accrue"
  managed {
    domains = [var.load_balancer.domain]
  }

  depends_on = [google_project_service.this]
}

resource "google_compute_target_https_proxy" "this" {
  count = var.load_balancer == null ? 0 : 1

  name             = "${local.prefix}accrue"
  url_map          = google_compute_url_map.this[0].id
  ssl_certificates = [google_compute_managed_ssl_certificate.this[0].id]
}

resource "google_compute_global_address" "this" {
  count = var.load_balancer == null ? 0 : 1

  name = "${local.prefix}accrue"

  depends_on = [google_project_service.this]
}

resource "google_compute_global_forwarding_rule" "this" {
  count = var.load_balancer == null ? 0 : 1

  name                  = "${local.prefix}accrue"
  load_balancing_scheme = "EXTERNAL_MANAGED"
  ip_address            = google_compute_global_address.this[0].id
  port_range            = "443"
  target                = google_compute_target_https_proxy.this[0].id
}
