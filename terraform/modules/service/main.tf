# One of Accrue's containers on Cloud Run, as a service or as a worker pool. The two resources are as alike as Cloud
# Run allows: a worker pool has no port, no concurrency, no readiness probe, and its CPU is always on.

locals {
  port       = 8080
  live_path  = "/health/live"
  ready_path = "/health/ready"
}

resource "google_cloud_run_v2_service" "this" {
  count = var.kind == "service" ? 1 : 0

  name                 = var.name
  description          = var.description
  location             = var.region
  ingress              = var.ingress
  default_uri_disabled = !var.default_url
  launch_stage         = var.readiness_probe ? "BETA" : "GA"
  deletion_protection  = false # it is stateless

  template {
    service_account                  = var.service_account
    max_instance_request_concurrency = var.concurrency
    timeout                          = "${var.timeout_seconds}s"

    scaling {
      min_instance_count = var.instances.min
      max_instance_count = var.instances.max
    }

    containers {
      name  = "accrue"
      image = var.image
      args  = var.arguments

      ports {
        container_port = local.port
      }

      resources {
        limits            = { cpu = var.cpu, memory = var.memory }
        cpu_idle          = var.cpu_idle
        startup_cpu_boost = true
      }

      dynamic "env" {
        for_each = var.environment
        content {
          name  = env.key
          value = env.value
        }
      }
      dynamic "env" {
        for_each = var.secrets
        content {
          name = env.key
          value_source {
            secret_key_ref {
              secret  = env.value.secret
              version = env.value.version
            }
          }
        }
      }

      # Neither checks a dependency: a restart would not help.
      startup_probe {
        period_seconds    = 1
        timeout_seconds   = 1
        failure_threshold = 30
        http_get {
          path = local.live_path
          port = local.port
        }
      }
      liveness_probe {
        period_seconds    = 10
        timeout_seconds   = 5
        failure_threshold = 3
        http_get {
          path = local.live_path
          port = local.port
        }
      }

      # Only after a minute of failures. When a dependency is down for all instances, removing them does not help: query can
      # serve its last view, and ingest its own 503.
      dynamic "readiness_probe" {
        for_each = var.readiness_probe ? [1] : []
        content {
          period_seconds    = 10
          timeout_seconds   = 3
          failure_threshold = 6
          http_get {
            path = local.ready_path
            port = local.port
          }
        }
      }
    }

    dynamic "containers" {
      for_each = var.collector == null ? [] : [var.collector]
      content {
        name       = "collector"
        image      = containers.value.image
        args       = ["--config=env:COLLECTOR"]
        depends_on = ["accrue"]

        resources {
          limits   = { cpu = "0.5", memory = "256Mi" }
          cpu_idle = var.cpu_idle
        }
        env {
          name  = "COLLECTOR"
          value = containers.value.config
        }
      }
    }
  }

  # A canary: the latest revision gets a part, and the one before the rest.
  dynamic "traffic" {
    for_each = var.canary == null ? [] : [var.canary]
    content {
      type    = "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST"
      percent = traffic.value.percent
    }
  }
  dynamic "traffic" {
    for_each = var.canary == null ? [] : [var.canary]
    content {
      type     = "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION"
      revision = traffic.value.stable
      percent  = 100 - traffic.value.percent
    }
  }
}

resource "google_cloud_run_v2_service_iam_member" "invoker" {
  for_each = var.kind == "service" ? var.invokers : toset([])

  name     = google_cloud_run_v2_service.this[0].name
  location = var.region
  role     = "roles/run.invoker"
  member   = each.value
}

resource "google_cloud_run_v2_worker_pool" "this" {
  count = var.kind == "worker" ? 1 : 0

  name                = var.name
  description         = var.description
  location            = var.region
  deletion_protection = false # Pub/Sub redelivers what it holds

  scaling {
    manual_instance_count = var.instances.min
  }

  template {
    service_account = var.service_account

    containers {
      name  = "accrue"
      image = var.image
      args  = var.arguments

      resources {
        limits = { cpu = var.cpu, memory = var.memory }
      }

      dynamic "env" {
        for_each = var.environment
        content {
          name  = env.key
          value = env.value
        }
      }
      dynamic "env" {
        for_each = var.secrets
        content {
          name = env.key
          value_source {
            secret_key_ref {
              secret  = env.value.secret
              version = env.value.version
            }
          }
        }
      }

      startup_probe {
        period_seconds    = 1
        timeout_seconds   = 1
        failure_threshold = 30
        http_get {
          path = local.live_path
          port = local.port
        }
      }
      liveness_probe {
        period_seconds    = 10
        timeout_seconds   = 5
        failure_threshold = 3
        http_get {
          path = local.live_path
          port = local.port
        }
      }
    }

    dynamic "containers" {
      for_each = var.collector == null ? [] : [var.collector]
      content {
        name       = "collector"
        image      = containers.value.image
        args       = ["--config=env:COLLECTOR"]
        depends_on = ["accrue"]

        resources {
          limits = { cpu = "0.5", memory = "256Mi" }
        }
        env {
          name  = "COLLECTOR"
          value = containers.value.config
        }
      }
    }
  }
}
