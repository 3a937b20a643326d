# Permissions: one account per program, no role wider than one topic, one subscription or one database, and no editor or
# owner of the project. The tests compare these tables exactly.

resource "google_service_account" "this" {
  for_each = toset(concat(
    local.single ? ["accrue"] : ["ingest", "aggregator", "query"],
    var.recognitions_endpoint == null ? [] : ["push"],
    var.archive ? ["archive"] : [],
  ))

  account_id   = each.value == "accrue" ? "accrue-${local.prefix}single" : "accrue-${local.prefix}${each.value}"
  display_name = "Accrue ${each.value}"

  depends_on = [google_project_service.this]
}

# Ingest's readiness checks that its topic exists, which the publisher role does not allow. The other services do not check
# theirs, since they can do most of their work without them.
resource "google_pubsub_topic_iam_member" "this" {
  for_each = { for what, grant in {
    "ingest publishes increments"       = { who = "ingest", role = "roles/pubsub.publisher", topic = google_pubsub_topic.increments.name }
    "ingest looks at increments"        = { who = "ingest", role = "roles/pubsub.viewer", topic = google_pubsub_topic.increments.name }
    "aggregator publishes dead letters" = { who = "aggregator", role = "roles/pubsub.publisher", topic = google_pubsub_topic.dead_letter.name }
    "query publishes recognitions"      = { who = "query", role = "roles/pubsub.publisher", topic = google_pubsub_topic.recognitions.name }
  } : what => merge(grant, local.single ? { who = "accrue" } : {}) }

  topic  = each.value.topic
  role   = each.value.role
  member = google_service_account.this[each.value.who].member
}

# The aggregator reads its subscription's lease and retention.
resource "google_pubsub_subscription_iam_member" "this" {
  for_each = { for pair in setproduct(keys(local.subscriptions), ["subscriber", "viewer"]) : join(" ", pair) => pair }

  subscription = google_pubsub_subscription.aggregator[each.value[0]].name
  role         = "roles/pubsub.${each.value[1]}"
  member       = google_service_account.this[local.single ? "accrue" : "aggregator"].member
}

# Query pulls what it posts to receivers, and reads the secrets that it signs with.
resource "google_pubsub_subscription_iam_member" "webhook" {
  for_each = google_pubsub_subscription.webhook

  subscription = each.value.name
  role         = "roles/pubsub.subscriber"
  member       = google_service_account.this[local.single ? "accrue" : "query"].member
}

resource "google_secret_manager_secret_iam_member" "webhooks" {
  count = var.recognition_webhooks == null ? 0 : 1

  project   = var.project
  secret_id = var.recognition_webhooks.secret
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.this[local.single ? "accrue" : "query"].member

  depends_on = [google_project_service.this]
}

# Firestore's roles are granted on the project; the condition narrows them to the one database.
resource "google_project_iam_member" "database" {
  for_each = toset(local.single ? ["accrue"] : ["aggregator", "query"])

  project = var.project
  role    = "roles/datastore.user"
  member  = google_service_account.this[each.value].member

  condition {
    title      = "accrue-database"
    expression = "resource.name == \"projects/${var.project}/databases/${local.database}\""
  }
}

# The collector writes time series, which are of the project: IAM has no condition for them.
resource "google_project_iam_member" "metrics" {
  for_each = var.collector == null || local.single ? toset([]) : toset(["ingest", "aggregator", "query"])

  project = var.project
  role    = "roles/monitoring.metricWriter"
  member  = google_service_account.this[each.value].member
}

# Pub/Sub writes the archive's rows as this account.
resource "google_bigquery_table_iam_member" "archive" {
  for_each = var.archive ? toset(["roles/bigquery.dataEditor"]) : toset([])

  dataset_id = google_bigquery_table.increments[0].dataset_id
  table_id   = google_bigquery_table.increments[0].table_id
  role       = each.value
  member     = google_service_account.this["archive"].member
}

# Pub/Sub signs requests as one of these accounts and writes as the other.
locals {
  impersonated = setintersection(keys(google_service_account.this), ["push", "archive"])
}

data "google_project" "this" {
  count = length(local.impersonated) == 0 ? 0 : 1
}

resource "google_service_account_iam_member" "pubsub" {
  for_each = local.impersonated

  service_account_id = google_service_account.this[each.value].name
  role               = "roles/iam.serviceAccountTokenCreator"
  member             = "serviceAccount:service-${data.google_project.this[0].number}@gcp-sa-pubsub.iam.gserviceaccount.com"
}
