# What is promised, and how fast the allowance of failures is being used. The measures are Google Cloud's own, so that they need
# no collector. Correctness is promised without an allowance: its alert is assertion-failed in alerts.tf.

locals {
  slos = var.slos == null ? {} : {
    availability = { goal = var.slos.availability, playbook = "publish-failures" }
    freshness    = { goal = var.slos.freshness, playbook = "freshness" }
  }
}

resource "google_monitoring_custom_service" "this" {
  count = var.slos == null ? 0 : 1

  service_id   = "accrue-${local.prefix}counting"
  display_name = local.title

  depends_on = [google_project_service.this]
}

resource "google_monitoring_slo" "this" {
  for_each = local.slos

  service             = google_monitoring_custom_service.this[0].service_id
  slo_id              = each.key
  display_name        = "${local.title}: ${each.key}"
  goal                = each.value.goal
  rolling_period_days = 28

  # Of ingest's requests, those without a 5xx.
  dynamic "request_based_sli" {
    for_each = each.key == "availability" ? [1] : []
    content {
      good_total_ratio {
        total_service_filter = "metric.type=\"run.googleapis.com/request_count\" resource.type=\"cloud_run_revision\" resource.label.service_name=\"${local.prefix}${local.posting}\""
        bad_service_filter   = "metric.type=\"run.googleapis.com/request_count\" resource.type=\"cloud_run_revision\" resource.label.service_name=\"${local.prefix}${local.posting}\" metric.label.response_code_class=\"5xx\""
      }
    }
  }

  # Of the minutes, those in which no message waits for more than ten seconds.
  dynamic "windows_based_sli" {
    for_each = each.key == "freshness" ? [1] : []
    content {
      window_period = "60s"
      metric_mean_in_range {
        time_series = "metric.type=\"pubsub.googleapis.com/subscription/oldest_unacked_message_age\" resource.type=\"pubsub_subscription\" resource.label.subscription_id=\"${google_pubsub_subscription.aggregator[keys(local.subscriptions)[0]].name}\""
        range {
          min = 0
          max = 10
        }
      }
    }
  }
}

# Fast: at this pace the allowance of 28 days is used in two, and it still goes on. Slow: in five days.
resource "google_monitoring_alert_policy" "burn" {
  for_each = { for pair in setproduct(keys(local.slos), ["fast", "slow"]) : join("-", pair) => { slo = pair[0], pace = pair[1] } }

  display_name          = "${local.title}: ${each.value.slo}, ${each.value.pace} burn"
  severity              = each.value.pace == "fast" ? "CRITICAL" : "WARNING"
  combiner              = "AND"
  notification_channels = each.value.pace == "fast" ? local.channels.page : local.channels.ticket

  dynamic "conditions" {
    for_each = each.value.pace == "fast" ? { "3600s" = 14, "300s" = 14 } : { "21600s" = 6, "1800s" = 6 }
    content {
      display_name = "${each.value.slo} over ${conditions.key}"
      condition_threshold {
        filter          = "select_slo_burn_rate(\"${google_monitoring_slo.this[each.value.slo].id}\", \"${conditions.key}\")"
        comparison      = "COMPARISON_GT"
        threshold_value = conditions.value
        duration        = "0s"
      }
    }
  }

  documentation {
    mime_type = "text/markdown"
    subject   = "${local.title}: ${each.value.slo}"
    content   = "The allowance of failures of ${each.value.slo} is being used ${each.value.pace == "fast" ? "fourteen" : "six"} times as fast as it may.\n\nWhat to look at, and what to do: ${var.playbooks}/${local.slos[each.value.slo].playbook}.md"
    links {
      display_name = "Playbook"
      url          = "${var.playbooks}/${local.slos[each.value.slo].playbook}.md"
    }
  }

  alert_strategy {
    auto_close = "3600s"
  }
}
