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
  ))

  service            = each.value
  disable_on_destroy = false # others in the project may use it
}

resource "google_artifact_registry_repository" "images" {
  repository_id = "accrue"
  description   = "Images of ingest, aggregator and query."
  location      = var.region
  format        = "DOCKER"

  docker_config {
    immutable_tags = true # a tag is a commit
  }

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
