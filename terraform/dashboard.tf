# One page that follows an increment, left to right and top to bottom, with the same metrics as the alerts.

locals {
  charts = [
    { title = "Increments published, sum of values", unit = "1/s", lines = {
      "sum" = "sum(rate(logging_googleapis_com:user_${google_logging_metric.increments.name}_sum{monitored_resource=\"cloud_run_revision\"}[1m]))"
    } },
    { title = "Requests", unit = "1/s", lines = {
      "by service and status" = "sum by (service_name, response_code_class) (rate(run_googleapis_com:request_count{${local.services}}[1m]))"
    } },
    { title = "Latency of ingest", unit = "ms", lines = {
      "p50" = "histogram_quantile(0.50, sum by (le) (rate(run_googleapis_com:request_latencies_bucket{monitored_resource=\"cloud_run_revision\",service_name=\"${local.prefix}${local.posting}\"}[1m])))"
      "p99" = "histogram_quantile(0.99, sum by (le) (rate(run_googleapis_com:request_latencies_bucket{monitored_resource=\"cloud_run_revision\",service_name=\"${local.prefix}${local.posting}\"}[1m])))"
    } },
    { title = "Publishes", unit = "1/s", lines = {
      "by outcome" = "sum by (response_class) (rate(pubsub_googleapis_com:topic_send_request_count{${local.increments_topic}}[1m]))"
    } },
    { title = "Age of the oldest message that is not counted", unit = "s", lines = {
      "age" = local.oldest
    } },
    { title = "Messages acknowledged, and waiting", unit = "1", lines = {
      "acknowledged per second" = "sum(rate(pubsub_googleapis_com:subscription_ack_message_count{${local.aggregator_backlog}}[1m]))"
      "waiting"                 = "max(pubsub_googleapis_com:subscription_num_undelivered_messages{${local.aggregator_backlog}})"
    } },
    { title = "Commits", unit = "1/s", lines = {
      "by outcome" = "sum by (response_code) (rate(firestore_googleapis_com:api_request_count{${local.commits}}[1m]))"
    } },
    { title = "Documents written and read", unit = "1/s", lines = {
      "written" = "sum(rate(firestore_googleapis_com:document_write_count{monitored_resource=\"firestore.googleapis.com/Database\",database_id=\"${local.database}\"}[1m]))"
      "read"    = "sum(rate(firestore_googleapis_com:document_read_count{monitored_resource=\"firestore.googleapis.com/Database\",database_id=\"${local.database}\"}[1m]))"
    } },
    { title = "Dead letters waiting", unit = "1", lines = {
      "waiting" = "max(pubsub_googleapis_com:subscription_num_undelivered_messages{${local.redrive_backlog}})"
    } },
    { title = "Recognitions published", unit = "1/s", lines = {
      "by outcome" = "sum by (response_class) (rate(pubsub_googleapis_com:topic_send_request_count{${local.recognitions_topic}}[1m]))"
    } },
    { title = "Warnings and errors", unit = "1/s", lines = {
      "by service and severity"     = "sum by (service, severity) (rate(logging_googleapis_com:user_${google_logging_metric.faults.name}{monitored_resource=\"cloud_run_revision\"}[5m]))"
      "by severity, the aggregator" = "sum by (service, severity) (rate(logging_googleapis_com:user_${google_logging_metric.faults.name}{monitored_resource=\"cloud_run_worker_pool\"}[5m]))"
    } },
    { title = "Memory, of its limit", unit = "1", lines = {
      "by service" = "histogram_quantile(0.99, sum by (le, service_name) (rate(run_googleapis_com:container_memory_utilizations_bucket{${local.services}}[5m])))"
      "aggregator" = "histogram_quantile(0.99, sum by (le) (rate(run_googleapis_com:container_memory_utilizations_bucket{${local.pools}}[5m])))"
    } },
  ]

  dashboard = "https://console.cloud.google.com/monitoring/dashboards/builder/${element(split("/", google_monitoring_dashboard.this.id), -1)}?project=${var.project}"

  columns = 3
  width   = 48 / local.columns
  height  = 14
}

resource "google_monitoring_dashboard" "this" {
  dashboard_json = jsonencode({
    displayName = local.title
    mosaicLayout = {
      columns = 48
      # A position of 0 is left out, as the API does: every plan would show a change otherwise.
      tiles = [for i, chart in local.charts : merge(
        i % local.columns == 0 ? {} : { xPos = (i % local.columns) * local.width },
        i < local.columns ? {} : { yPos = floor(i / local.columns) * local.height }, {
          width                         = local.width
          height                        = local.height
          widget = {
            title = chart.title
            xyChart = {
              yAxis = { label = chart.unit }
              # A query that groups has many lines. Cloud Monitoring names them by their labels.
              dataSets = [for legend, query in chart.lines : merge({
                plotType = "LINE"
                timeSeriesQuery = {
                  prometheusQuery = query
                  unitOverride    = chart.unit
                }
              }, startswith(legend, "by ") ? {} : { legendTemplate = legend })]
            }
          }
      })]
    }
  })

  depends_on = [google_project_service.this]
}
