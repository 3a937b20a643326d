# What a project gets that asks for nothing special: as plain, as safe and as cheap as it can be.

mock_provider "google" {}

variables {
  project   = "accrue-test"
  image_tag = "0123abc"
}

run "defaults" {
  # Services.
  assert {
    condition = (
      module.ingest[0].container.image == "us-central1-docker.pkg.dev/accrue-test/accrue/ingest:0123abc" &&
      module.aggregator["all"].container.image == "us-central1-docker.pkg.dev/accrue-test/accrue/aggregator:0123abc" &&
      module.query[0].container.image == "us-central1-docker.pkg.dev/accrue-test/accrue/query:0123abc"
    )
    error_message = "An image is not the one that docs/deploy.md has pushed."
  }
  assert {
    condition     = module.ingest[0].container.resources[0].cpu_idle == true
    error_message = "Ingest is billed for more than its requests."
  }
  assert {
    condition     = module.query[0].container.resources[0].cpu_idle == false && module.query[0].instances == { min = 1, max = 3 }
    error_message = "Query refreshes between requests: it needs its CPU always, and an instance at least."
  }
  assert {
    condition     = module.ingest[0].instances == { min = 0, max = 3 } && module.aggregator["all"].instances == { min = 1, max = 1 }
    error_message = "Ingest goes down to nothing, and there is one aggregator."
  }
  assert {
    condition     = module.query[0].timeout == "3600s"
    error_message = "Query's streams are cut sooner than they need be."
  }

  # The subscription leaves out what costs or spoils: see messages.tf.
  assert {
    condition = (
      google_pubsub_subscription.aggregator["all"].ack_deadline_seconds == 12 &&
      google_pubsub_subscription.aggregator["all"].expiration_policy[0].ttl == "" &&
      length(google_pubsub_subscription.aggregator["all"].dead_letter_policy) == 0 &&
      length(google_pubsub_subscription.aggregator["all"].retry_policy) == 0 &&
      length(google_pubsub_subscription.aggregator["all"].push_config) == 0 &&
      google_pubsub_subscription.aggregator["all"].enable_message_ordering == null &&
      google_pubsub_subscription.aggregator["all"].enable_exactly_once_delivery == null &&
      google_pubsub_subscription.aggregator["all"].filter == null
    )
    error_message = "The aggregator's subscription is not the plain one that the commit protocol was made for."
  }
  assert {
    condition     = google_pubsub_subscription.redrive.expiration_policy[0].ttl == "" && google_pubsub_subscription.redrive.message_retention_duration == "2678400s"
    error_message = "Dead letters do not wait for as long as Pub/Sub keeps them."
  }
  assert {
    condition = alltrue([
      for t in [google_pubsub_topic.increments, google_pubsub_topic.dead_letter, google_pubsub_topic.recognitions] :
      t.message_storage_policy[0].allowed_persistence_regions == toset(["us-central1"])
    ])
    error_message = "Messages may be stored outside of the region."
  }
  assert {
    condition     = google_pubsub_topic.increments.message_retention_duration == null && length(google_pubsub_topic.increments.schema_settings) == 0
    error_message = "The increments topic keeps or checks messages unasked."
  }

  # The database.
  assert {
    condition = (
      google_firestore_database.this.name == "(default)" &&
      google_firestore_database.this.type == "FIRESTORE_NATIVE" &&
      google_firestore_database.this.location_id == "us-central1" &&
      google_firestore_database.this.delete_protection_state == "DELETE_PROTECTION_ENABLED" &&
      google_firestore_database.this.point_in_time_recovery_enablement == "POINT_IN_TIME_RECOVERY_DISABLED"
    )
    error_message = "The database is not a protected one beside the services."
  }
  assert {
    condition     = alltrue([for f in google_firestore_field.unindexed : f.field == "*" && length(f.index_config) == 1 && length(f.index_config[0].indexes) == 0])
    error_message = "A collection has indexes on all fields: one on a time that grows caps it near 500 writes a second."
  }
  assert {
    condition = toset(flatten([
      for f in google_firestore_field.queried : [for i in f.index_config[0].indexes : "${f.collection}.${f.field} ${i.order}"]
      ])) == toset([
      "contributors.contributions ASCENDING", "contributors.contributions DESCENDING", "recognitions.state ASCENDING", "recognitions.tier ASCENDING",
    ])
    error_message = "The indexes are not those that pkg/store/firestore needs."
  }
  assert {
    condition     = google_firestore_index.due.collection == "contributors" && [for f in google_firestore_index.due.fields : "${f.field_path} ${f.order}"] == ["recognized_tier ASCENDING", "contributions ASCENDING"]
    error_message = "The index that recognition asks is not the one that it needs."
  }
  assert {
    condition     = google_firestore_index.latest.collection == "recognitions" && [for f in google_firestore_index.latest.fields : "${f.field_path} ${f.order}"] == ["shard ASCENDING", "recognized_at DESCENDING"]
    error_message = "The index that the latest recognitions are read by is not the one that it needs, or follows a time alone."
  }
  assert {
    condition     = google_firestore_index.latest_of_tier.collection == "recognitions" && [for f in google_firestore_index.latest_of_tier.fields : "${f.field_path} ${f.order}"] == ["tier ASCENDING", "shard ASCENDING", "recognized_at DESCENDING"]
    error_message = "The index that the latest recognitions of a tier are read by is not the one that it needs."
  }
  assert {
    condition = keys(google_firestore_field.expiring) == ["folds", "hours", "keys", "minutes"] && alltrue([
      for name, f in google_firestore_field.expiring :
      f.field == "expire_at" && length(f.ttl_config) == 1 && length(f.index_config[0].indexes) == 0 && contains(keys(google_firestore_field.unindexed), name)
    ])
    error_message = "What expires is not deleted, or is indexed by its time."
  }

  # Logs.
  assert {
    condition = (
      google_logging_metric.increments.value_extractor == "EXTRACT(jsonPayload.sum)" &&
      google_logging_metric.increments.metric_descriptor[0].value_type == "DISTRIBUTION" &&
      google_logging_metric.increments.metric_descriptor[0].metric_kind == "DELTA" &&
      length(google_logging_metric.increments.bucket_options) == 1
    )
    error_message = "The metric does not sum what was posted: a counter would count lines."
  }
  assert {
    condition     = strcontains(google_logging_metric.faults.filter, "cloud_run_revision") && strcontains(google_logging_metric.faults.filter, "cloud_run_worker_pool")
    error_message = "The faults of services or of the worker pool are not counted: their resource types differ."
  }
  assert {
    condition     = google_logging_project_exclusion.requests.disabled == false && strcontains(google_logging_project_exclusion.requests.filter, "run.googleapis.com/requests")
    error_message = "Request logs are stored: at high rates they cost more than the service."
  }
  assert {
    condition     = google_logging_project_exclusion.publishes.disabled == true
    error_message = "Ingest's lines for publishes are not stored by default."
  }

  # Watching.
  assert {
    condition = toset(keys(google_monitoring_alert_policy.this)) == toset([
      "assertion-failed", "checkpoint-nearly-full", "conflicts", "dead-letters", "freshness", "memory",
      "not-draining", "publish-failures", "recognitions-stuck", "view-not-refreshing",
    ])
    error_message = "There is not one alert for each playbook."
  }
  assert {
    condition     = alltrue([for name, a in google_monitoring_alert_policy.this : strcontains(a.documentation[0].content, "/docs/playbooks/${name}.md") && length(a.notification_channels) == 0])
    error_message = "An alert does not link its playbook."
  }
  assert {
    condition     = strcontains(google_monitoring_dashboard.this.dashboard_json, "user_accrue_increments_sum")
    error_message = "The dashboard does not show the sum of what was posted."
  }

  # Optional parts.
  assert {
    condition = (
      length(google_pubsub_schema.increments) == 0 && length(google_pubsub_subscription.recognitions_push) == 0 &&
      length(google_pubsub_subscription.archive) == 0 && length(google_bigquery_dataset.archive) == 0 && length(google_bigquery_table.increments) == 0 &&
      length(google_firebaserules_ruleset.clients) == 0 && length(google_firebaserules_release.clients) == 0 &&
      length(google_service_account_iam_member.pubsub) == 0 && length(google_monitoring_notification_channel.email) == 0
    )
    error_message = "An optional part is made unasked."
  }

  # What the README promises.
  assert {
    condition     = strcontains(output.try_it, "${output.ingest_url}/increments") && strcontains(output.try_it, "${output.query_url}/stats")
    error_message = "The outputs do not say how to try it."
  }
}
