# Metrics of the programs in Cloud Monitoring: an OpenTelemetry Collector beside each container, services and worker pools
# alike, reads /metrics and writes Managed Service for Prometheus. It needs a CPU that is always on, so ingest's are complete
# with cpu_idle = false only.

locals {
  deployment = var.name == "" ? "accrue" : var.name # a label of each metric: several deployments may share a project

  collector_config = yamlencode({
    receivers = {
      prometheus = {
        config = {
          scrape_configs = [{
            job_name        = "accrue"
            scrape_interval = "30s"
            static_configs  = [{ targets = ["localhost:8080"], labels = { deployment = local.deployment } }]
            metric_relabel_configs = [{
              source_labels = ["__name__"]
              regex         = "accrue_.*|process_(cpu_seconds_total|resident_memory_bytes)|up"
              action        = "keep"
            }]
          }]
        }
      }
    }
    processors = {
      resourcedetection = { detectors = ["gcp"], timeout = "10s" }
      memory_limiter    = { check_interval = "1s", limit_mib = 160, spike_limit_mib = 32 }
      batch             = { send_batch_size = 200, send_batch_max_size = 200, timeout = "5s" }
    }
    exporters = { googlemanagedprometheus = {} }
    service = {
      pipelines = {
        metrics = {
          receivers  = ["prometheus"]
          processors = ["memory_limiter", "resourcedetection", "batch"]
          exporters  = ["googlemanagedprometheus"]
        }
      }
    }
  })
}
