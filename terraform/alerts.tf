# Alerts, each with the name of its playbook. All use Google Cloud's own metrics and the log-based metrics, so they work
# without a scraper. Conditions are PromQL, in which a metric
# pubsub.googleapis.com/a/b is pubsub_googleapis_com:a_b.

locals {
  increments_topic   = "monitored_resource=\"pubsub_topic\",topic_id=\"${google_pubsub_topic.increments.name}\""
  recognitions_topic = "monitored_resource=\"pubsub_topic\",topic_id=\"${google_pubsub_topic.recognitions.name}\""
  aggregator_backlog = "monitored_resource=\"pubsub_subscription\",subscription_id=~\"${local.prefix}increments-aggregator.*\""
  redrive_backlog    = "monitored_resource=\"pubsub_subscription\",subscription_id=\"${google_pubsub_subscription.redrive.name}\""
  push_backlog       = "monitored_resource=\"pubsub_subscription\",subscription_id=\"${local.prefix}recognitions-push\""
  webhook_backlog    = "monitored_resource=\"pubsub_subscription\",subscription_id=~\"${local.prefix}recognitions-webhook-.*\""
  commits            = "monitored_resource=\"firestore.googleapis.com/Database\",database_id=\"${local.database}\",api_method=\"Commit\""
  queries            = "monitored_resource=\"firestore.googleapis.com/Database\",database_id=\"${local.database}\",api_method=\"RunQuery\""
  services           = "monitored_resource=\"cloud_run_revision\",service_name=~\"${local.prefix}(${local.posting}|${local.reading})\""
  pools              = "monitored_resource=\"cloud_run_worker_pool\",worker_pool_name=~\"${local.prefix}aggregator.*\""
  uptime             = "monitored_resource=\"uptime_url\",check_id=~\"${join("|", [for c in google_monitoring_uptime_check_config.this : c.uptime_check_id])}\""
  worker             = "monitored_resource=\"${local.single ? "cloud_run_revision" : "cloud_run_worker_pool"}\""

  # Two windows, in seconds.
  promised_seconds = format("%.6g", 2 * try(tonumber(trimsuffix(var.settings.window, "ms")) / 1000, tonumber(trimsuffix(var.settings.window, "s"))))

  title  = var.name == "" ? "Accrue" : "Accrue ${var.name}"
  oldest = "max(pubsub_googleapis_com:subscription_oldest_unacked_message_age{${local.aggregator_backlog}})"

  alerts = {
    not-draining = {
      severity = "CRITICAL"
      summary  = "Increments are accepted and not counted. Nothing is lost until Pub/Sub's retention ends, a week after the first."
      conditions = {
        "a message has waited for two minutes" = { query = "${local.oldest} > 120", duration = "120s" }
        "messages come and none is acknowledged" = {
          query    = <<-EOT
            sum(increase(pubsub_googleapis_com:topic_send_request_count{${local.increments_topic},response_class="success"}[10m])) > 0
            unless
            sum(increase(pubsub_googleapis_com:subscription_ack_message_count{${local.aggregator_backlog}}[10m])) > 0
          EOT
          duration = "300s"
        }
      }
    }

    freshness = {
      severity = "WARNING"
      summary  = "Totals are older than promised: messages wait for longer than two windows."
      conditions = merge({
        "messages wait for more than ten seconds" = { query = "${local.oldest} > 10", duration = "300s" }
        }, var.collector == null ? {} : {
        "one increment in a hundred is older than two windows" = {
          query    = "histogram_quantile(0.99, sum by (le) (rate(accrue_freshness_seconds_bucket{deployment=\"${local.deployment}\"}[5m]))) > ${local.promised_seconds}"
          duration = "300s"
        }
      })
    }

    assertion-failed = {
      severity = "CRITICAL"
      summary  = "Accrue contradicts itself about what it has counted. What would have been wrong was not committed, and waits in Pub/Sub for a week."
      conditions = {
        "an assertion failed" = {
          query    = "sum(increase(logging_googleapis_com:user_${google_logging_metric.assertions_failed.name}{${local.worker}}[10m])) > 0"
          duration = "0s"
        }
      }
    }

    dead-letters = {
      severity = "ERROR"
      summary  = "Messages wait in increments-dead-letter-redrive, or entries in the collection rejected, each with its reason. They are not counted."
      conditions = {
        "there are dead letters" = {
          query    = "max(pubsub_googleapis_com:subscription_num_undelivered_messages{${local.redrive_backlog}}) > 0"
          duration = "60s"
        }
        "rejected entries wait" = {
          query    = "sum(increase(logging_googleapis_com:user_${google_logging_metric.entries_waiting.name}{monitored_resource=\"cloud_run_revision\"}[10m])) > 0"
          duration = "0s"
        }
      }
    }

    publish-failures = {
      severity = "CRITICAL"
      summary  = "Producers are answered 503 and must retry."
      conditions = {
        "one publish in a hundred fails" = {
          query    = <<-EOT
            sum(rate(pubsub_googleapis_com:topic_send_request_count{${local.increments_topic},response_class!="success"}[5m]))
            / sum(rate(pubsub_googleapis_com:topic_send_request_count{${local.increments_topic}}[5m])) > 0.01
            and sum(rate(pubsub_googleapis_com:topic_send_request_count{${local.increments_topic},response_class!="success"}[5m])) > 0.02
          EOT
          duration = "120s"
        }
        "one request in a hundred fails" = {
          query    = <<-EOT
            sum(rate(run_googleapis_com:request_count{monitored_resource="cloud_run_revision",service_name="${local.prefix}${local.posting}",response_code_class="5xx"}[5m]))
            / sum(rate(run_googleapis_com:request_count{monitored_resource="cloud_run_revision",service_name="${local.prefix}${local.posting}"}[5m])) > 0.01
            and sum(rate(run_googleapis_com:request_count{monitored_resource="cloud_run_revision",service_name="${local.prefix}${local.posting}",response_code_class="5xx"}[5m])) > 0.02
          EOT
          duration = "120s"
        }
      }
    }

    unreachable = {
      severity = "CRITICAL"
      summary  = "Google reaches ingest or query from fewer than half of its places, as strangers would."
      conditions = {
        "fewer than half of the places get an answer" = {
          # Only where one got an answer within the last day: a certificate for a new domain takes up to an hour.
          query    = <<-EOT
            avg by (check_id) (avg_over_time(monitoring_googleapis_com:uptime_check_check_passed{${local.uptime}}[10m])) < 0.5
            and max by (check_id) (max_over_time(monitoring_googleapis_com:uptime_check_check_passed{${local.uptime}}[1d])) > 0
          EOT
          duration = "120s"
        }
      }
    }

    conflicts = {
      severity = "WARNING"
      summary  = "Commits lose their race for a checkpoint: totals stay exact, but work is done twice."
      conditions = {
        "one commit in five conflicts" = {
          query    = <<-EOT
            sum(rate(firestore_googleapis_com:api_request_count{${local.commits},response_code=~"FAILED_PRECONDITION|ALREADY_EXISTS|ABORTED"}[10m]))
            / sum(rate(firestore_googleapis_com:api_request_count{${local.commits}}[10m])) > 0.2
            and sum(rate(firestore_googleapis_com:api_request_count{${local.commits}}[10m])) > 0.1
          EOT
          duration = "600s"
        }
      }
    }

    view-not-refreshing = {
      severity = "CRITICAL"
      summary  = "Query serves totals that no longer change, or fails to serve them."
      conditions = {
        "the checkpoints are not read" = {
          # Only where they were read within the last day: not on the first apply, and not if Google renames a label.
          query    = <<-EOT
            sum(increase(firestore_googleapis_com:api_request_count{${local.queries},response_code="OK"}[1d])) > 0
            unless sum(increase(firestore_googleapis_com:api_request_count{${local.queries},response_code="OK"}[10m])) > 0
          EOT
          duration = "300s"
        }
        "one request in a hundred fails" = {
          query    = <<-EOT
            sum(rate(run_googleapis_com:request_count{monitored_resource="cloud_run_revision",service_name="${local.prefix}${local.reading}",response_code_class="5xx"}[5m]))
            / sum(rate(run_googleapis_com:request_count{monitored_resource="cloud_run_revision",service_name="${local.prefix}${local.reading}"}[5m])) > 0.01
            and sum(rate(run_googleapis_com:request_count{monitored_resource="cloud_run_revision",service_name="${local.prefix}${local.reading}",response_code_class="5xx"}[5m])) > 0.02
          EOT
          duration = "300s"
        }
      }
    }

    checkpoint-nearly-full = {
      severity = "ERROR"
      summary  = "A partition is running out of room for new tags. When it is full, new tags are rejected and known tags continue. Raise settings.partitions, then redrive."
      conditions = {
        "a checkpoint is three fifths full" = {
          query    = "sum(increase(logging_googleapis_com:user_${google_logging_metric.checkpoint_filling.name}{${local.worker}}[20m])) > 1"
          duration = "0s"
        }
        "new tags were rejected" = {
          query    = "sum(increase(logging_googleapis_com:user_${google_logging_metric.checkpoint_full.name}{${local.worker}}[10m])) > 0"
          duration = "0s"
        }
      }
    }

    recognitions-stuck = {
      severity = "ERROR"
      summary  = "Contributors who reached a tier are not recognized, or their events are not delivered."
      conditions = merge({
        "recognitions cannot be published" = {
          query    = "sum(increase(pubsub_googleapis_com:topic_send_request_count{${local.recognitions_topic},response_class!=\"success\"}[10m])) > 0"
          duration = "300s"
        }
        }, var.recognitions_endpoint == null ? {} : {
        "the endpoint does not accept them" = {
          query    = "max(pubsub_googleapis_com:subscription_oldest_unacked_message_age{${local.push_backlog}}) > 600"
          duration = "120s"
        }
        }, var.recognition_webhooks == null ? {} : {
        "a webhook does not accept them" = {
          query    = "max by (subscription_id) (pubsub_googleapis_com:subscription_oldest_unacked_message_age{${local.webhook_backlog}}) > 3600"
          duration = "300s"
        }
      })
    }

    memory = {
      severity = "WARNING"
      summary  = "An instance is near its memory limit, beyond which Cloud Run kills it."
      conditions = {
        "a service uses more than four fifths" = {
          query    = "histogram_quantile(0.99, sum by (le, service_name) (rate(run_googleapis_com:container_memory_utilizations_bucket{${local.services}}[5m]))) > 0.8"
          duration = "300s"
        }
        "the aggregator uses more than four fifths" = {
          query    = "histogram_quantile(0.99, sum by (le) (rate(run_googleapis_com:container_memory_utilizations_bucket{${local.pools}}[5m]))) > 0.8"
          duration = "300s"
        }
      }
    }
  }
}

locals {
  emails = [for channel in google_monitoring_notification_channel.email : channel.id]
  channels = {
    page   = concat(local.emails, tolist(var.notification_channels.page))
    ticket = concat(local.emails, tolist(var.notification_channels.ticket))
  }
  # What sleeps is not late: in one process only lost messages and failures alert.
  alerting = { for name, alert in local.alerts : name => alert if var.alerts && (name != "unreachable" || var.uptime_checks) && (
    !local.single || contains(["assertion-failed", "dead-letters", "publish-failures"], name)
  ) }
}

resource "google_monitoring_notification_channel" "email" {
  for_each = var.alert_emails

  display_name = "${local.title}: ${each.value}"
  type         = "email"
  labels       = { email_address = each.value }

  depends_on = [google_project_service.this]
}

resource "google_monitoring_alert_policy" "this" {
  for_each = local.alerting

  display_name          = "${local.title}: ${each.key}"
  severity              = each.value.severity
  combiner              = "OR"
  notification_channels = each.value.severity == "CRITICAL" ? local.channels.page : local.channels.ticket

  dynamic "conditions" {
    for_each = each.value.conditions
    content {
      display_name = conditions.key
      condition_prometheus_query_language {
        query               = trimspace(conditions.value.query)
        duration            = conditions.value.duration
        evaluation_interval = "60s"
        # A metric without any value yet is unknown to Cloud Monitoring, such as that of dead letters before the first one.
        disable_metric_validation = true
      }
    }
  }

  documentation {
    mime_type = "text/markdown"
    subject   = "${local.title}: ${each.key}"
    content   = "${each.value.summary}\n\nWhat to look at, and what to do: ${var.playbooks}/${each.key}.md"
    links {
      display_name = "Playbook"
      url          = "${var.playbooks}/${each.key}.md"
    }
    links {
      display_name = "Dashboard"
      url          = local.dashboard
    }
    links {
      display_name = "Warnings and errors"
      url          = "https://console.cloud.google.com/logs/query;query=${urlencode(google_logging_metric.faults.filter)}?project=${var.project}"
    }
  }

  alert_strategy {
    auto_close = "3600s"
  }

  depends_on = [google_project_service.this]
}
