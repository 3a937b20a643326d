# Log-based metrics and log exclusions. A metric counts lines whether they are stored or not.

locals {
  # The aggregator's lines.
  counting = local.single ? "resource.type = \"cloud_run_revision\" resource.labels.service_name = \"${local.prefix}accrue\"" : "resource.type = \"cloud_run_worker_pool\" resource.labels.worker_pool_name =~ \"^${local.prefix}aggregator\""

  metric = var.name == "" ? "accrue" : "accrue_${replace(var.name, "-", "_")}"
}

# The sum of all published values: each `published` line of ingest has the number of entries and the sum of their increments,
# for one message or for those of a quarter of a second. A counter would count lines; a distribution keeps the sum of the
# field. It equals the growth of /stats, an audit that shares no code with the counting. A killed instance may lose its
# last lines.
resource "google_logging_metric" "increments" {
  name            = "${local.metric}_increments"
  description     = "Sum of the values of all increments that ingest has published."
  value_extractor = "EXTRACT(jsonPayload.sum)"

  filter = <<-EOT
    resource.type = "cloud_run_revision"
    resource.labels.service_name = "${local.prefix}${local.posting}"
    jsonPayload.message = "published"
  EOT

  metric_descriptor {
    metric_kind  = "DELTA"
    value_type   = "DISTRIBUTION"
    unit         = "1"
    display_name = "Increments published"
  }

  # The sum is exact whatever the buckets. These show the sizes of publishes.
  bucket_options {
    exponential_buckets {
      scale              = 1
      growth_factor      = 2
      num_finite_buckets = 24
    }
  }

  depends_on = [google_project_service.this]
}

# Warnings and errors of all three, by service. The aggregator's lines have another resource type.
resource "google_logging_metric" "faults" {
  name        = "${local.metric}_faults"
  description = "Log lines of Accrue of severity WARNING or worse."

  filter = <<-EOT
    (resource.type = "cloud_run_revision" AND resource.labels.service_name = ("${local.prefix}${local.posting}" OR "${local.prefix}${local.reading}"))
    OR (resource.type = "cloud_run_worker_pool" AND resource.labels.worker_pool_name =~ "^${local.prefix}aggregator")
    severity >= WARNING
    NOT log_id("run.googleapis.com/requests")
  EOT

  metric_descriptor {
    metric_kind  = "DELTA"
    value_type   = "INT64"
    unit         = "1"
    display_name = "Warnings and errors"

    labels {
      key         = "severity"
      value_type  = "STRING"
      description = "WARNING, ERROR or CRITICAL."
    }
    labels {
      key         = "service"
      value_type  = "STRING"
      description = "ingest, aggregator or query."
    }
  }

  label_extractors = {
    severity = "EXTRACT(severity)"
    service  = "EXTRACT(jsonPayload.service)"
  }

  depends_on = [google_project_service.this]
}

# Rejections because a checkpoint has no room for new tags.
resource "google_logging_metric" "checkpoint_full" {
  name        = "${local.metric}_checkpoint_full"
  description = "Times that the aggregator rejected increments because a checkpoint was full."

  filter = <<-EOT
    ${local.counting}
    jsonPayload.error : "checkpoint is full"
  EOT

  metric_descriptor {
    metric_kind  = "DELTA"
    value_type   = "INT64"
    unit         = "1"
    display_name = "Rejections for lack of room"
  }

  depends_on = [google_project_service.this]
}

# The aggregator's warning that a checkpoint is at least three fifths full, every five minutes.
resource "google_logging_metric" "checkpoint_filling" {
  name        = "${local.metric}_checkpoint_filling"
  description = "Times that the aggregator warned that a checkpoint is filling up."

  filter = <<-EOT
    ${local.counting}
    jsonPayload.message : "a checkpoint is filling up"
  EOT

  metric_descriptor {
    metric_kind  = "DELTA"
    value_type   = "INT64"
    unit         = "1"
    display_name = "Warnings of a checkpoint filling up"
  }

  depends_on = [google_project_service.this]
}

# The aggregator's error that it contradicts itself.
resource "google_logging_metric" "assertions_failed" {
  name        = "${local.metric}_assertions_failed"
  description = "Times that the aggregator logged that an assertion failed."

  filter = <<-EOT
    ${local.counting}
    jsonPayload.message : "an assertion failed"
  EOT

  metric_descriptor {
    metric_kind  = "DELTA"
    value_type   = "INT64"
    unit         = "1"
    display_name = "Assertions that failed"
  }

  depends_on = [google_project_service.this]
}

# Query's warning that rejected entries wait to be redriven, every minute.
resource "google_logging_metric" "entries_waiting" {
  name        = "${local.metric}_entries_waiting"
  description = "Times that query warned that rejected entries wait to be redriven."

  filter = <<-EOT
    resource.type = "cloud_run_revision"
    resource.labels.service_name = "${local.prefix}${local.reading}"
    jsonPayload.message : "rejected entries wait to be redriven"
  EOT

  metric_descriptor {
    metric_kind  = "DELTA"
    value_type   = "INT64"
    unit         = "1"
    display_name = "Warnings of rejected entries that wait"
  }

  depends_on = [google_project_service.this]
}

resource "google_logging_project_exclusion" "requests" {
  name        = "accrue-${local.prefix}requests"
  description = "Cloud Run's line per request: all that succeed, and 99 of 100 that fail."
  disabled    = var.request_logs

  filter = <<-EOT
    resource.type = "cloud_run_revision"
    resource.labels.service_name = ("${local.prefix}${local.posting}" OR "${local.prefix}${local.reading}")
    log_id("run.googleapis.com/requests")
    (httpRequest.status < 500 OR sample(insertId, 0.99))
  EOT

  depends_on = [google_project_service.this]
}

resource "google_logging_project_exclusion" "publishes" {
  name        = "accrue-${local.prefix}publishes"
  description = "Ingest's `published` lines. The metric accrue_increments sums them all the same."
  disabled    = var.publish_logs

  filter = google_logging_metric.increments.filter
}
