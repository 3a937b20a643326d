# What everything else needs: the APIs, and a registry for the images.

resource "google_project_service" "this" {
  for_each = toset(concat(
    [
      "artifactregistry.googleapis.com",
      "cloudbuild.googleapis.com",
      "cloudresourcemanager.googleapis.com",
      "firestore.googleapis.com",
      "iam.googleapis.com",
      "logging.googleapis.com",
      "monitoring.googleapis.com",
      "pubsub.googleapis.com",
      "run.googleapis.com",
    ],
    var.archive ? ["bigquery.googleapis.com"] : [],
    var.firestore_rules == null ? [] : ["firebaserules.googleapis.com"],
    var.load_balancer == null ? [] : ["compute.googleapis.com"],
    var.recognition_webhooks == null ? [] : ["secretmanager.googleapis.com"],
    var.budget == null ? [] : ["billingbudgets.googleapis.com"],
  ))

  service            = each.value
  disable_on_destroy = false # others in the project may use it
}

resource "google_artifact_registry_repository" "images" {
  count = var.registry == null ? 1 : 0

  repository_id = "${local.prefix}accrue"
  description   = "Images of ingest, aggregator and query."
  location      = var.region
  format        = "DOCKER"

  # Tags are not immutable, since Artifact Registry deletes no image with such a tag. Pin digests to be sure of an image.
  cleanup_policies {
    id     = "keep-recent"
    action = "KEEP"
    most_recent_versions {
      keep_count = 10
    }
  }
  cleanup_policies {
    id     = "delete-old"
    action = "DELETE"
    condition {
      older_than = "2592000s"
    }
  }

  depends_on = [google_project_service.this]
}

# Builds run as this account, which may push to this registry, read its sources, and write its log.
resource "google_service_account" "builder" {
  count = var.registry == null ? 1 : 0

  account_id   = "accrue-${local.prefix}builder"
  display_name = "Accrue builder"

  depends_on = [google_project_service.this]
}

resource "google_artifact_registry_repository_iam_member" "builder" {
  count = var.registry == null ? 1 : 0

  location   = google_artifact_registry_repository.images[0].location
  repository = google_artifact_registry_repository.images[0].name
  role       = "roles/artifactregistry.writer"
  member     = google_service_account.builder[0].member
}

resource "google_storage_bucket" "sources" {
  count = var.registry == null ? 1 : 0

  name                        = "${var.project}-${local.prefix}accrue-sources"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = true

  lifecycle_rule {
    condition {
      age = 7
    }
    action {
      type = "Delete"
    }
  }

  depends_on = [google_project_service.this]
}

resource "google_storage_bucket_iam_member" "builder" {
  count = var.registry == null ? 1 : 0

  bucket = google_storage_bucket.sources[0].name
  role   = "roles/storage.objectViewer"
  member = google_service_account.builder[0].member
}

# Writing log entries cannot be narrowed: it is a permission of the project, and reads nothing.
resource "google_project_iam_member" "builder" {
  count = var.registry == null ? 1 : 0

  project = var.project
  role    = "roles/logging.logWriter"
  member  = google_service_account.builder[0].member
}

# A budget does not stop anything: it tells.
resource "google_billing_budget" "this" {
  count = var.budget == null ? 0 : 1

  billing_account = var.budget.billing_account
  display_name    = "Accrue ${var.project}"

  budget_filter {
    projects = ["projects/${var.project}"]
  }
  amount {
    specified_amount {
      units = tostring(var.budget.amount)
    }
  }
  dynamic "threshold_rules" {
    for_each = [0.5, 0.9, 1.0]
    content {
      threshold_percent = threshold_rules.value
    }
  }
  threshold_rules {
    threshold_percent = 1.0
    spend_basis       = "FORECASTED_SPEND"
  }
  all_updates_rule {
    monitoring_notification_channels = slice(local.channels.ticket, 0, min(5, length(local.channels.ticket)))
    disable_default_iam_recipients   = false
  }

  depends_on = [google_project_service.this]
}
