# Accrue, in the order in which an increment passes through it:
#
#   producer -> ingest -> topic increments -> aggregator -> database -> query -> /stats, and topic recognitions
#
# The topics are in messages.tf, the database in database.tf, the permissions in access.tf.

locals {
  # OpenTelemetry's standard variables, the same for all three services, so that they sample the same traces.
  traces = var.traces == null ? {} : {
    OTEL_EXPORTER_OTLP_ENDPOINT = var.traces.endpoint
    OTEL_EXPORTER_OTLP_PROTOCOL = var.traces.protocol
    OTEL_TRACES_SAMPLER_ARG     = var.traces.ratio
  }

  images = "${google_artifact_registry_repository.images.location}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.images.repository_id}"
}

module "ingest" {
  source = "./modules/service"

  kind            = "service"
  name            = "ingest"
  description     = "Accepts increments and contributions over HTTP and answers 202 once Pub/Sub has them."
  region          = var.region
  service_account = google_service_account.this["ingest"].email
  invokers        = var.invokers.ingest
  image           = "${local.images}/ingest:${var.image_tag}"
  cpu             = var.ingest.cpu
  memory          = var.ingest.memory
  instances       = { min = var.ingest.min_instances, max = var.ingest.max_instances }
  concurrency     = var.ingest.concurrency
  cpu_idle        = var.ingest.cpu_idle # ingest does nothing between requests
  readiness_probe = var.readiness_probes

  environment = merge(local.traces, {
    GOOGLE_CLOUD_PROJECT = var.project
    LOG_LEVEL            = var.settings.log_level
    INCREMENTS_TOPIC     = google_pubsub_topic.increments.name
    PARTITIONS           = var.settings.partitions
    PENDING_BYTES        = var.settings.pending_bytes
    TAGS                 = join(",", var.settings.tags)
    NEW_TAGS_PER_MINUTE  = var.settings.new_tags_per_minute
    CORS_ORIGINS         = join(",", var.settings.cors_origins)
  })

  depends_on = [google_pubsub_topic_iam_member.this]
}

module "aggregator" {
  source = "./modules/service"

  kind            = "worker"
  name            = "aggregator"
  description     = "Sums messages and commits them to Firestore, exactly once."
  region          = var.region
  service_account = google_service_account.this["aggregator"].email
  image           = "${local.images}/aggregator:${var.image_tag}"
  cpu             = var.aggregator.cpu
  memory          = var.aggregator.memory
  instances       = { min = var.aggregator.instances, max = var.aggregator.instances }

  environment = merge(local.traces, {
    GOOGLE_CLOUD_PROJECT    = var.project
    FIRESTORE_DATABASE      = google_firestore_database.this.name
    LOG_LEVEL               = var.settings.log_level
    INCREMENTS_TOPIC        = google_pubsub_topic.increments.name
    INCREMENTS_SUBSCRIPTION = google_pubsub_subscription.aggregator.name
    DEAD_LETTER_TOPIC       = google_pubsub_topic.dead_letter.name
    WINDOW                  = var.settings.window
    TAG_DOCUMENTS           = var.settings.tag_documents
    COMMIT_DOCUMENTS        = var.settings.commit_documents
    COMMITS                 = var.settings.commits
    BUFFER_BYTES            = var.settings.buffer_bytes
    IDEMPOTENCY_HORIZON     = var.settings.idempotency_horizon
    IDEMPOTENCY_KEYS        = var.settings.idempotency_keys
    CORS_ORIGINS            = join(",", var.settings.cors_origins)
  })

  # It reads the subscription's settings at its start.
  depends_on = [google_pubsub_subscription_iam_member.this, google_pubsub_topic_iam_member.this, google_project_iam_member.database]
}

module "query" {
  source = "./modules/service"

  kind            = "service"
  name            = "query"
  description     = "Serves totals from memory, streams their changes, and publishes recognitions."
  region          = var.region
  service_account = google_service_account.this["query"].email
  invokers        = var.invokers.query
  image           = "${local.images}/query:${var.image_tag}"
  cpu             = var.query.cpu
  memory          = var.query.memory
  instances       = { min = var.query.min_instances, max = var.query.max_instances }
  concurrency     = var.query.concurrency
  cpu_idle        = false # it reads the checkpoints between requests
  timeout_seconds = 3600  # streams end with it, and browsers reconnect
  readiness_probe = var.readiness_probes

  environment = merge(local.traces, {
    GOOGLE_CLOUD_PROJECT = var.project
    FIRESTORE_DATABASE   = google_firestore_database.this.name
    LOG_LEVEL            = var.settings.log_level
    REFRESH              = var.settings.refresh
    RECOGNITION_TIERS    = join(",", var.settings.recognition_tiers)
    RECOGNITIONS_TOPIC   = google_pubsub_topic.recognitions.name
    CORS_ORIGINS         = join(",", var.settings.cors_origins)
  })

  depends_on = [google_pubsub_topic_iam_member.this, google_project_iam_member.database]
}
