# Topics and subscriptions. What the aggregator's subscription leaves out is left out on purpose.

locals {
  lease         = 12               # seconds: what a crash costs; the aggregator extends it
  webhook_lease = 30               # seconds: what a crash of query delays its receivers by
  never_expires = ""               # a subscription unused for 31 days would be deleted otherwise
  week          = "${7 * 86400}s"  # of unacknowledged messages
  month         = "${31 * 86400}s" # the longest that Pub/Sub keeps one
  regions       = toset([var.region])

  # The filters of the shards, which are 0 to 63: a partition modulo 64. A filter has at most 256 bytes, so that two halves
  # are taken by their first digits. What has no shard goes to the first.
  halves = ["NOT attributes:shard OR hasPrefix(attributes.shard, \"1\") OR hasPrefix(attributes.shard, \"2\") OR hasPrefix(attributes.shard, \"3\")",
  "attributes:shard AND NOT hasPrefix(attributes.shard, \"1\") AND NOT hasPrefix(attributes.shard, \"2\") AND NOT hasPrefix(attributes.shard, \"3\")"]
  filters = var.aggregator.shards == 2 ? local.halves : [
    for shard in range(var.aggregator.shards) : join(" OR ", concat(
      shard == 0 ? ["NOT attributes:shard"] : [],
      [for value in range(64) : "attributes.shard=\"${value}\"" if value % var.aggregator.shards == shard],
    ))
  ]
  subscriptions = merge(
    var.aggregator.shards == 1 || var.aggregator.unsharded ? { all = null } : {},
    var.aggregator.shards == 1 ? {} : { for i, filter in local.filters : tostring(i) => filter },
  )
}

resource "google_pubsub_schema" "increments" {
  count = var.message_schema == null ? 0 : 1

  name       = "${local.prefix}increments"
  type       = "PROTOCOL_BUFFER"
  definition = file(var.message_schema)

  depends_on = [google_project_service.this]
}

resource "google_pubsub_topic" "increments" {
  name                       = "${local.prefix}increments"
  message_retention_duration = var.message_retention

  message_storage_policy {
    allowed_persistence_regions = local.regions
  }

  dynamic "schema_settings" {
    for_each = google_pubsub_schema.increments
    content {
      schema   = schema_settings.value.id
      encoding = "BINARY"
    }
  }

  depends_on = [google_project_service.this]
}

# No ordering: correctness does not need it, and a key carries 1 MB/s. No exactly-once delivery: it is slower and does not
# see retried publishes. No dead-letter policy: a restart would count as failed deliveries. No retry policy: messages that
# are released at a shutdown must be redelivered at once.
resource "google_pubsub_subscription" "aggregator" {
  for_each = local.subscriptions

  name                       = "${local.prefix}increments-aggregator${each.key == "all" ? "" : "-${each.key}"}"
  filter                     = each.value
  topic                      = google_pubsub_topic.increments.id
  ack_deadline_seconds       = local.lease
  message_retention_duration = local.week

  expiration_policy {
    ttl = local.never_expires
  }
}

# Messages that the aggregator could not decode. It publishes them itself, each with its reason.
resource "google_pubsub_topic" "dead_letter" {
  name = "${local.prefix}increments-dead-letter"

  message_storage_policy {
    allowed_persistence_regions = local.regions
  }

  depends_on = [google_project_service.this]
}

# Without a subscription the dead letters would be lost. They wait here to be inspected and redriven.
resource "google_pubsub_subscription" "redrive" {
  name                       = "${local.prefix}increments-dead-letter-redrive"
  topic                      = google_pubsub_topic.dead_letter.id
  ack_deadline_seconds       = local.lease
  message_retention_duration = local.month

  expiration_policy {
    ttl = local.never_expires
  }
}

# Kept for a month, so that a later consumer can seek back to the first event.
resource "google_pubsub_topic" "recognitions" {
  name                       = "${local.prefix}recognitions"
  message_retention_duration = local.month

  message_storage_policy {
    allowed_persistence_regions = local.regions
  }

  depends_on = [google_project_service.this]
}

# Without the wrapper the attributes become headers: the endpoint gets a CloudEvent in HTTP's binary mode.
resource "google_pubsub_subscription" "recognitions_push" {
  count = var.recognitions_endpoint == null ? 0 : 1

  name                       = "${local.prefix}recognitions-push"
  topic                      = google_pubsub_topic.recognitions.id
  ack_deadline_seconds       = local.lease
  message_retention_duration = local.week

  push_config {
    push_endpoint = var.recognitions_endpoint
    no_wrapper {
      write_metadata = true
    }
    oidc_token {
      service_account_email = google_service_account.this["push"].email
    }
  }
  retry_policy {
    minimum_backoff = "1s"
    maximum_backoff = "600s"
  }
  expiration_policy {
    ttl = local.never_expires
  }
}

# The events of each receiver that query posts recognitions to: what fails waits here, and slows no other.
resource "google_pubsub_subscription" "webhook" {
  for_each = try(var.recognition_webhooks.receivers, {})

  name                       = "${google_pubsub_topic.recognitions.name}-webhook-${each.key}"
  topic                      = google_pubsub_topic.recognitions.id
  ack_deadline_seconds       = local.webhook_lease
  message_retention_duration = local.week

  expiration_policy {
    ttl = local.never_expires
  }
}
