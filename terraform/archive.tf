# A copy of every message, off by default. A message that was delivered twice has two rows of the same (publisher,
# partition, sequence), and a sum over the archive must drop the second. docs/deploy.md has the query.

resource "google_bigquery_dataset" "archive" {
  count = var.archive ? 1 : 0

  dataset_id  = replace("${local.prefix}accrue", "-", "_")
  description = "Every message that ingest published."
  location    = var.region

  depends_on = [google_project_service.this]
}

locals {
  # The fields of pkg/message/batch.proto, and Pub/Sub's metadata of each message.
  archive_columns = [
    { name = "publisher", type = "BYTES", mode = "NULLABLE" },
    { name = "partition", type = "INTEGER", mode = "NULLABLE" },
    { name = "sequence", type = "NUMERIC", mode = "NULLABLE" }, # 64 bits without a sign
    { name = "accepted_at", type = "INTEGER", mode = "NULLABLE" },
    { name = "increments", type = "RECORD", mode = "REPEATED", fields = [
      { name = "tag", type = "STRING", mode = "NULLABLE" },
      { name = "value", type = "INTEGER", mode = "NULLABLE" },
      { name = "key", type = "BYTES", mode = "NULLABLE" },
      { name = "next", type = "INTEGER", mode = "NULLABLE" },
    ] },
    { name = "contributions", type = "RECORD", mode = "REPEATED", fields = [
      { name = "contributor", type = "STRING", mode = "NULLABLE" },
      { name = "key", type = "BYTES", mode = "NULLABLE" },
      { name = "next", type = "INTEGER", mode = "NULLABLE" },
    ] },
    { name = "partitions", type = "INTEGER", mode = "NULLABLE" },
    { name = "subscription_name", type = "STRING", mode = "NULLABLE" },
    { name = "message_id", type = "STRING", mode = "NULLABLE" },
    { name = "publish_time", type = "TIMESTAMP", mode = "NULLABLE" },
    { name = "attributes", type = "JSON", mode = "NULLABLE" },
  ]
}

resource "google_bigquery_table" "increments" {
  count = var.archive ? 1 : 0

  dataset_id          = google_bigquery_dataset.archive[0].dataset_id
  table_id            = "increments"
  schema              = jsonencode(local.archive_columns)
  clustering          = ["partition"]
  deletion_protection = var.database_protected

  time_partitioning {
    type  = "DAY"
    field = "publish_time"
  }
}

resource "google_pubsub_subscription" "archive" {
  count = var.archive ? 1 : 0

  name                       = "${local.prefix}increments-archive"
  topic                      = google_pubsub_topic.increments.id
  ack_deadline_seconds       = local.lease
  message_retention_duration = local.month

  bigquery_config {
    table                 = "${var.project}.${google_bigquery_table.increments[0].dataset_id}.${google_bigquery_table.increments[0].table_id}"
    use_topic_schema      = true
    write_metadata        = true
    service_account_email = google_service_account.this["archive"].email
  }
  expiration_policy {
    ttl = local.never_expires
  }

  depends_on = [google_bigquery_table_iam_member.archive, google_service_account_iam_member.pubsub]
}
