# Topics and subscriptions. What the aggregator's subscription leaves out is left out on purpose.

locals {
  lease         = 12               # seconds: what a crash costs; the aggregator extends it
  never_expires = ""               # a subscription unused for 31 days would be deleted otherwise
  week          = "${7 * 86400}s"  # of unacknowledged messages
  month         = "${31 * 86400}s" # the longest that Pub/Sub keeps one
  regions       = toset([var.region])
}

resource "google_pubsub_schema" "increments" {
  count = var.message_schema == null ? 0 : 1

  name       = "increments"
  type       = "PROTOCOL_BUFFER"
  definition = file(var.message_schema)

  depends_on = [google_project_service.this]
}

resource "google_pubsub_topic" "increments" {
  name                       = "increments"
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
  name                       = "increments-aggregator"
  topic                      = google_pubsub_topic.increments.id
  ack_deadline_seconds       = local.lease
  message_retention_duration = local.week

  expiration_policy {
    ttl = local.never_expires
  }
}

# Messages that the aggregator could not decode. It publishes them itself, each with its reason.
resource "google_pubsub_topic" "dead_letter" {
  name = "increments-dead-letter"

  message_storage_policy {
    allowed_persistence_regions = local.regions
  }

  depends_on = [google_project_service.this]
}

# Without a subscription the dead letters would be lost. They wait here to be inspected and redriven.
resource "google_pubsub_subscription" "redrive" {
  name                       = "increments-dead-letter-redrive"
  topic                      = google_pubsub_topic.dead_letter.id
  ack_deadline_seconds       = local.lease
  message_retention_duration = local.month

  expiration_policy {
    ttl = local.never_expires
  }
}

# Kept for a month, so that a later consumer can seek back to the first event.
resource "google_pubsub_topic" "recognitions" {
  name                       = "recognitions"
  message_retention_duration = local.month

  message_storage_policy {
    allowed_persistence_regions = local.regions
  }

  depends_on = [google_project_service.this]
}

# Without the wrapper the attributes become headers: the endpoint gets a CloudEvent in HTTP's binary mode.
resource "google_pubsub_subscription" "recognitions_push" {
  count = var.recognitions_endpoint == null ? 0 : 1

  name                       = "recognitions-push"
  topic                      = google_pubsub_topic.recognitions.id
  ack_deadline_seconds       = local.lease
  message_retention_duration = local.week

  push_config {
    push_endpoint = var.recognitions_endpoint
    no_wrapper {
      write_metadata = true
    }
    oidc_token {
      service_account_email = google_service_account.this["recognitions-push"].email
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
