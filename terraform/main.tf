# Accrue, in the order in which an increment passes through it; it is upgraded in the order query, aggregator, ingest, so that what
# reads is always as new as what writes:
#
#   producer -> ingest -> topic increments -> aggregator -> database -> query -> /stats, and topic recognitions
#
# The topics are in messages.tf, the database in database.tf, the permissions in access.tf. It is a module: examples/ has
# what calls it, with a provider and a place for the state.

locals {
  single = var.mode == "single"
  prefix = var.name == "" ? "" : "${var.name}-"

  # What the services use: the database of database.tf, or one that was restored beside it.
  database = coalesce(var.restored_database, google_firestore_database.this.name)

  # OpenTelemetry's standard variables, the same for all three services, so that they sample the same traces.
  traces = var.traces == null ? {} : {
    OTEL_EXPORTER_OTLP_ENDPOINT = var.traces.endpoint
    OTEL_EXPORTER_OTLP_PROTOCOL = var.traces.protocol
    OTEL_TRACES_SAMPLER_ARG     = var.traces.ratio
  }

  images = coalesce(var.registry, one([
    for r in google_artifact_registry_repository.images : "${r.location}-docker.pkg.dev/${var.project}/${r.repository_id}"
  ]))
  version = { for name, digest in var.digests : name => digest == null ? ":${var.image_tag}" : "@${digest}" }

  # Without receivers there is no secret either.
  webhooks = {
    environment = merge(
      { RECOGNITION_WEBHOOKS = join(",", [for name, address in try(var.recognition_webhooks.receivers, {}) : "${name}=${address}"]) },
      var.recognition_webhooks == null ? { RECOGNITION_WEBHOOK_SECRETS = "" } : {},
    )
    secrets = var.recognition_webhooks == null ? {} : {
      RECOGNITION_WEBHOOK_SECRETS = { secret = var.recognition_webhooks.secret, version = var.recognition_webhooks.version }
    }
  }

  collector = var.collector == null ? null : { image = var.collector.image, config = local.collector_config }
  open      = var.load_balancer == null
}

module "ingest" {
  source = "./modules/service"
  count  = local.single ? 0 : 1

  kind            = "service"
  name            = "${local.prefix}ingest"
  description     = "Accepts increments and contributions over HTTP and answers 202 once Pub/Sub has them."
  region          = var.region
  service_account = google_service_account.this["ingest"].email
  invokers        = var.invokers.ingest
  image           = "${local.images}/ingest${local.version.ingest}"
  cpu             = var.ingest.cpu
  memory          = var.ingest.memory
  instances       = { min = var.ingest.min_instances, max = var.ingest.max_instances }
  concurrency     = var.ingest.concurrency
  cpu_idle        = var.ingest.cpu_idle # ingest does nothing between requests
  readiness_probe = var.readiness_probes
  ingress         = local.open ? var.ingress : "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER"
  default_url     = local.open && var.default_urls
  canary          = var.canary.ingest
  collector       = local.collector

  environment = merge(local.traces, {
    GOOGLE_CLOUD_PROJECT = var.project
    LOG_LEVEL            = var.settings.log_level
    INCREMENTS_TOPIC     = google_pubsub_topic.increments.name
    PARTITIONS           = var.settings.partitions
    PENDING_BYTES        = var.settings.pending_bytes
    TAGS                 = join(",", var.settings.tags)
    NEW_TAGS_PER_MINUTE  = var.settings.new_tags_per_minute
    HIDE                 = join(",", var.settings.hide)
    CORS_ORIGINS         = join(",", var.settings.cors_origins)
  })

  # What is published before a subscription exists is not in it.
  depends_on = [google_pubsub_topic_iam_member.this, google_project_iam_member.metrics, google_pubsub_subscription.archive, module.aggregator]
}

# One pool, or one for each shard. While shards are introduced, the pool without one drains the plain subscription.
module "aggregator" {
  source   = "./modules/service"
  for_each = local.single ? toset([]) : toset(keys(local.subscriptions))

  kind            = "worker"
  name            = "${local.prefix}aggregator${each.key == "all" ? "" : "-${each.key}"}"
  description     = "Sums messages and commits them to Firestore, exactly once."
  region          = var.region
  service_account = google_service_account.this["aggregator"].email
  image           = "${local.images}/aggregator${local.version.aggregator}"
  cpu             = var.aggregator.cpu
  memory          = var.aggregator.memory
  instances       = { min = var.aggregator.instances, max = var.aggregator.instances }
  collector       = local.collector

  environment = merge(local.traces, {
    GOOGLE_CLOUD_PROJECT    = var.project
    FIRESTORE_DATABASE      = local.database
    COLLECTION_PREFIX       = var.settings.collection_prefix
    HIDE                    = join(",", var.settings.hide)
    LOG_LEVEL               = var.settings.log_level
    INCREMENTS_TOPIC        = google_pubsub_topic.increments.name
    INCREMENTS_SUBSCRIPTION = google_pubsub_subscription.aggregator[each.key].name
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

  # It reads the subscription's settings at its start. A document that is written before its exemption is indexed, and a dead letter
  # without a subscription is lost.
  depends_on = [
    google_pubsub_subscription_iam_member.this, google_pubsub_topic_iam_member.this, google_project_iam_member.database, google_project_iam_member.metrics,
    google_firestore_field.unindexed, google_firestore_field.expiring, google_pubsub_subscription.redrive,
    module.query,
  ]
}

module "query" {
  source = "./modules/service"
  count  = local.single ? 0 : 1

  kind            = "service"
  name            = "${local.prefix}query"
  description     = "Serves totals from memory, streams their changes, and publishes recognitions."
  region          = var.region
  service_account = google_service_account.this["query"].email
  invokers        = var.invokers.query
  image           = "${local.images}/query${local.version.query}"
  cpu             = var.query.cpu
  memory          = var.query.memory
  instances       = { min = var.query.min_instances, max = var.query.max_instances }
  concurrency     = var.query.concurrency
  cpu_idle        = false # it reads the checkpoints between requests
  timeout_seconds = 3600  # streams end with it, and browsers reconnect
  readiness_probe = var.readiness_probes
  ingress         = local.open ? var.ingress : "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER"
  default_url     = local.open && var.default_urls
  canary          = var.canary.query
  collector       = local.collector

  secrets = local.webhooks.secrets
  environment = merge(local.traces, local.webhooks.environment, {
    GOOGLE_CLOUD_PROJECT = var.project
    FIRESTORE_DATABASE   = local.database
    COLLECTION_PREFIX    = var.settings.collection_prefix
    HIDE                 = join(",", var.settings.hide)
    LOG_LEVEL            = var.settings.log_level
    REFRESH              = var.settings.refresh
    METRICS_TAGS         = var.settings.metrics_tags
    RECOGNITION_TIERS    = join(",", var.settings.recognition_tiers)
    RECOGNITIONS_TOPIC   = google_pubsub_topic.recognitions.name
    CORS_ORIGINS         = join(",", var.settings.cors_origins)
  })

  # Recognition needs its indexes.
  depends_on = [
    google_pubsub_topic_iam_member.this, google_project_iam_member.database, google_project_iam_member.metrics,
    google_firestore_index.due, google_firestore_index.latest, google_firestore_index.latest_of_tier, google_firestore_field.queried, google_pubsub_subscription.recognitions_push,
    google_pubsub_subscription_iam_member.webhook, google_secret_manager_secret_iam_member.webhooks,
  ]
}

# Everything in one process that sleeps without requests. Its CPU stops between them, so a post is answered once it had time
# to be counted; what was not counted waits in Pub/Sub for the next request.
module "single" {
  source = "./modules/service"
  count  = local.single ? 1 : 0

  kind            = "service"
  name            = "${local.prefix}accrue"
  description     = "Counts increments and serves totals, in one process that sleeps without requests."
  region          = var.region
  service_account = google_service_account.this["accrue"].email
  invokers        = setunion(var.invokers.ingest, var.invokers.query)
  image           = "${local.images}/accrue${local.version.accrue}"
  arguments       = ["run", "--listen", "0.0.0.0", "--hold", "1s"]
  cpu             = "1"
  memory          = "256Mi"
  instances       = { min = 0, max = 1 }
  concurrency     = 200
  cpu_idle        = true
  timeout_seconds = 300 # a stream is billed for as long as it lasts
  ingress         = local.open ? var.ingress : "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER"
  default_url     = local.open && var.default_urls

  secrets = local.webhooks.secrets
  environment = merge(local.traces, local.webhooks.environment, {
    GOMEMLIMIT              = "200MiB"
    GOOGLE_CLOUD_PROJECT    = var.project
    FIRESTORE_DATABASE      = local.database
    COLLECTION_PREFIX       = var.settings.collection_prefix
    HIDE                    = join(",", var.settings.hide)
    LOG_LEVEL               = var.settings.log_level
    INCREMENTS_TOPIC        = google_pubsub_topic.increments.name
    INCREMENTS_SUBSCRIPTION = google_pubsub_subscription.aggregator["all"].name
    DEAD_LETTER_TOPIC       = google_pubsub_topic.dead_letter.name
    RECOGNITIONS_TOPIC      = google_pubsub_topic.recognitions.name
    METRICS_TAGS            = var.settings.metrics_tags
    RECOGNITION_TIERS       = join(",", var.settings.recognition_tiers)
    TAGS                    = join(",", var.settings.tags)
    NEW_TAGS_PER_MINUTE     = var.settings.new_tags_per_minute
    CORS_ORIGINS            = join(",", var.settings.cors_origins)
    IDEMPOTENCY_HORIZON     = var.settings.idempotency_horizon
    # Small, for the free quotas: one checkpoint, read every five seconds while there are requests.
    PARTITIONS       = 1
    WINDOW           = "200ms"
    REFRESH          = "5s"
    IDEMPOTENCY_KEYS = 200000
    BUFFER_BYTES     = 16777216
    PENDING_BYTES    = 8388608
  })

  # What the three services need.
  depends_on = [
    google_pubsub_subscription_iam_member.this, google_pubsub_topic_iam_member.this, google_project_iam_member.database, google_project_iam_member.metrics,
    google_firestore_field.unindexed, google_firestore_field.expiring, google_firestore_index.due, google_firestore_index.latest, google_firestore_index.latest_of_tier, google_firestore_field.queried,
    google_pubsub_subscription.redrive, google_pubsub_subscription.archive, google_pubsub_subscription.recognitions_push,
    google_pubsub_subscription_iam_member.webhook, google_secret_manager_secret_iam_member.webhooks,
  ]
}
