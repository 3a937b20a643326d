# What is promised, how well it is kept, and how fast the allowance of failures is being used. The measures are Google Cloud's own,
# so that they need no collector. Correctness is promised without an allowance: its alert is assertion-failed in alerts.tf.

locals {
  slos = var.slos == null ? {} : {
    availability = { goal = var.slos.availability, playbook = "publish-failures" }
    freshness    = { goal = var.slos.freshness, playbook = "freshness" }
  }

  # A window of freshness looks at one subscription, so each has a measure of its own.
  fresh = var.slos == null ? {} : { for shard, _ in local.subscriptions : shard == "all" ? "freshness" : "freshness-${shard}" => shard }

  posts = "monitored_resource=\"cloud_run_revision\",service_name=\"${local.prefix}${local.posting}\""

  # The share of failures over a time RANGE. For freshness a failure is a minute in which any subscription is late.
  failing = {
    availability = "sum(rate(run_googleapis_com:request_count{${local.posts},response_code_class=\"5xx\"}[RANGE])) / sum(rate(run_googleapis_com:request_count{${local.posts}}[RANGE]))"
    freshness    = "avg_over_time((${local.oldest} > bool 10)[RANGE:1m])"
  }

  # Fast: at this pace the allowance of 28 days is used in two, and it still goes on. Slow: in five days.
  paces = {
    fast = { times = 14, ranges = ["1h", "5m"], severity = "CRITICAL", channels = local.channels.page }
    slow = { times = 6, ranges = ["6h", "30m"], severity = "WARNING", channels = local.channels.ticket }
  }
}

resource "google_monitoring_custom_service" "this" {
  count = var.slos == null ? 0 : 1

  service_id   = "accrue-${local.prefix}counting"
  display_name = local.title

  depends_on = [google_project_service.this]
}

# Of ingest's requests, those without a 5xx.
resource "google_monitoring_slo" "availability" {
  count = var.slos == null ? 0 : 1

  service             = google_monitoring_custom_service.this[0].service_id
  slo_id              = "availability"
  display_name        = "${local.title}: availability"
  goal                = var.slos.availability
  rolling_period_days = 28

  request_based_sli {
    good_total_ratio {
      total_service_filter = "metric.type=\"run.googleapis.com/request_count\" resource.type=\"cloud_run_revision\" resource.label.service_name=\"${local.prefix}${local.posting}\""
      bad_service_filter   = "metric.type=\"run.googleapis.com/request_count\" resource.type=\"cloud_run_revision\" resource.label.service_name=\"${local.prefix}${local.posting}\" metric.label.response_code_class=\"5xx\""
    }
  }
}

# Of the minutes, those in which no message of the subscription waits for more than ten seconds.
resource "google_monitoring_slo" "freshness" {
  for_each = local.fresh

  service             = google_monitoring_custom_service.this[0].service_id
  slo_id              = each.key
  display_name        = "${local.title}: ${each.key}"
  goal                = var.slos.freshness
  rolling_period_days = 28

  windows_based_sli {
    window_period = "60s"
    metric_mean_in_range {
      time_series = "metric.type=\"pubsub.googleapis.com/subscription/oldest_unacked_message_age\" resource.type=\"pubsub_subscription\" resource.label.subscription_id=\"${google_pubsub_subscription.aggregator[each.value].name}\""
      range {
        min = 0
        max = 10
      }
    }
  }
}

resource "google_monitoring_alert_policy" "burn" {
  for_each = { for pair in setproduct(keys(local.slos), ["fast", "slow"]) : join("-", pair) => merge(local.slos[pair[0]], local.paces[pair[1]], { slo = pair[0], pace = pair[1] }) }

  display_name          = "${local.title}: ${each.value.slo}, ${each.value.pace} burn"
  severity              = each.value.severity
  combiner              = "OR"
  notification_channels = each.value.channels

  conditions {
    display_name = "${each.value.slo} over ${join(" and ", each.value.ranges)}"
    condition_prometheus_query_language {
      # A few failures at night are not an alert, though they are a large share.
      query = join(" and ", concat(
        [for range in each.value.ranges : "${replace(local.failing[each.value.slo], "RANGE", range)} > ${format("%.6g", each.value.times * (1 - each.value.goal))}"],
        each.value.slo == "freshness" ? [] : ["sum(rate(run_googleapis_com:request_count{${local.posts},response_code_class=\"5xx\"}[${each.value.ranges[1]}])) > 0.01"],
      ))
      duration                  = "0s"
      evaluation_interval       = "60s"
      disable_metric_validation = true
    }
  }

  documentation {
    mime_type = "text/markdown"
    subject   = "${local.title}: ${each.value.slo}"
    content   = "The allowance of failures of ${each.value.slo} is being used ${each.value.times} times as fast as it may.\n\nWhat to look at, and what to do: ${var.playbooks}/${each.value.playbook}.md"
    links {
      display_name = "Playbook"
      url          = "${var.playbooks}/${each.value.playbook}.md"
    }
    links {
      display_name = "Dashboard"
      url          = local.dashboard
    }
  }

  alert_strategy {
    auto_close = "3600s"
  }

  depends_on = [google_project_service.this]
}
