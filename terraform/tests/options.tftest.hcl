# Every optional part, on; the defaults' suite has them off.

mock_provider "google" {}

variables {
  project   = "accrue-test"
  image_tag = "0123abc"
}

run "schema" {
  variables {
    message_schema = "tests/message.proto"
  }

  assert {
    condition     = google_pubsub_schema.increments[0].type == "PROTOCOL_BUFFER" && google_pubsub_schema.increments[0].definition == file("tests/message.proto")
    error_message = "The schema is not the definition that was named."
  }
  assert {
    condition     = google_pubsub_topic.increments.schema_settings[0].schema == google_pubsub_schema.increments[0].id && google_pubsub_topic.increments.schema_settings[0].encoding == "BINARY"
    error_message = "The topic does not check messages against the schema."
  }
}

run "archive" {
  variables {
    message_schema = "tests/message.proto"
    archive        = true
  }

  assert {
    condition     = google_pubsub_subscription.archive[0].topic == google_pubsub_topic.increments.id && google_pubsub_subscription.archive[0].bigquery_config[0].table == "accrue-test.accrue.increments"
    error_message = "The archive does not take the increments' messages to its table."
  }
  assert {
    condition = [for c in jsondecode(google_bigquery_table.increments[0].schema) : c.name] == [
      "publisher", "partition", "sequence", "accepted_at", "increments", "contributions", "partitions", "subscription_name", "message_id", "publish_time", "attributes",
    ]
    error_message = "The table's columns are not the message's fields."
  }
  assert {
    condition = (
      google_pubsub_subscription.archive[0].bigquery_config[0].service_account_email == google_service_account.this["archive"].email &&
      [for m in google_bigquery_table_iam_member.archive : "${m.member} ${m.role} ${m.dataset_id}.${m.table_id}"] == ["${google_service_account.this["archive"].member} roles/bigquery.dataEditor accrue.increments"] &&
      keys(google_service_account_iam_member.pubsub) == ["archive"]
    )
    error_message = "The archive is not written by its own account, on its own table alone."
  }
  assert {
    condition     = contains(keys(google_project_service.this), "bigquery.googleapis.com")
    error_message = "BigQuery is not turned on."
  }
}

run "clients" {
  variables {
    firestore_rules = "tests/firestore.rules"
  }

  assert {
    condition     = google_firebaserules_ruleset.clients[0].source[0].files[0].content == file("tests/firestore.rules")
    error_message = "The rules are not those that were named."
  }
  assert {
    condition = (
      google_firebaserules_release.clients[0].name == "cloud.firestore" &&
      google_firebaserules_release.clients[0].ruleset_name == "projects/accrue-test/rulesets/${google_firebaserules_ruleset.clients[0].name}"
    )
    error_message = "The rules are not in force for the database."
  }
  assert {
    condition     = contains(keys(google_project_service.this), "firebaserules.googleapis.com")
    error_message = "The API of the rules is not turned on."
  }
}

run "push" {
  variables {
    recognitions_endpoint = "https://example.com/recognitions"
  }

  assert {
    condition = (
      google_pubsub_subscription.recognitions_push[0].topic == google_pubsub_topic.recognitions.id &&
      google_pubsub_subscription.recognitions_push[0].push_config[0].push_endpoint == "https://example.com/recognitions" &&
      google_pubsub_subscription.recognitions_push[0].push_config[0].no_wrapper[0].write_metadata &&
      google_pubsub_subscription.recognitions_push[0].push_config[0].oidc_token[0].service_account_email == google_service_account.this["push"].email
    )
    error_message = "Recognitions are not pushed as signed CloudEvents."
  }
  assert {
    condition     = keys(google_service_account_iam_member.pubsub) == ["push"] && contains([for c in google_monitoring_alert_policy.this["recognitions-stuck"].conditions : c.display_name], "the endpoint does not accept them")
    error_message = "Pushing has no signer, or no alert."
  }
}

run "safety" {
  variables {
    database_location  = "eur3"
    database_protected = false
    database_recovery  = true
    message_retention  = "86400s"
  }

  assert {
    condition = (
      google_firestore_database.this.location_id == "eur3" &&
      google_firestore_database.this.delete_protection_state == "DELETE_PROTECTION_DISABLED" &&
      google_firestore_database.this.point_in_time_recovery_enablement == "POINT_IN_TIME_RECOVERY_ENABLED" &&
      google_pubsub_topic.increments.message_retention_duration == "86400s"
    )
    error_message = "Location, protection, recovery or retention is not what was asked for."
  }
}

run "watching" {
  variables {
    alerts       = true
    alert_emails = ["a@example.com", "b@example.com"]
    playbooks    = "https://example.com/books"
  }

  assert {
    condition = alltrue([
      for name, a in google_monitoring_alert_policy.this :
      length(a.notification_channels) == 2 && a.documentation[0].links[0].url == "https://example.com/books/${name}.md"
    ])
    error_message = "An alert has no channel, or links the wrong playbook."
  }
}

run "unwatched" {
  variables {
    alerts       = false
    request_logs = true
    publish_logs = false
  }

  assert {
    condition     = length(google_monitoring_alert_policy.this) == 0
    error_message = "Alerts are made though they were turned off."
  }
  assert {
    condition     = google_logging_project_exclusion.requests.disabled && !google_logging_project_exclusion.publishes.disabled
    error_message = "Logs are not stored as asked for."
  }
}

run "traced" {
  variables {
    traces = { endpoint = "http://collector.internal:4317", protocol = "grpc", ratio = 0.5 }
  }

  assert {
    condition = alltrue([
      for container in [module.ingest[0].container, module.aggregator["all"].container, module.query[0].container] : {
        OTEL_EXPORTER_OTLP_ENDPOINT = "http://collector.internal:4317"
        OTEL_EXPORTER_OTLP_PROTOCOL = "grpc"
        OTEL_TRACES_SAMPLER_ARG     = "0.5"
      } == { for e in container.env : e.name => e.value if startswith(e.name, "OTEL_") }
    ])
    error_message = "A service lacks the OTLP settings."
  }
}

run "sizes" {
  variables {
    region     = "europe-west1"
    ingest     = { cpu = "2", memory = "1Gi", min_instances = 2, max_instances = 100, concurrency = 1000, cpu_idle = false }
    aggregator = { cpu = "2", memory = "2Gi", instances = 2 }
    query      = { min_instances = 2, max_instances = 50 }
    settings   = { partitions = 64, window = "2s", refresh = "1s", recognition_tiers = [3, 10, 100], pending_bytes = 268435456, log_level = "warn", cors_origins = ["https://example.com", "http://localhost:3000"] }
  }

  assert {
    condition = (
      module.ingest[0].container.resources[0].cpu_idle == false && module.ingest[0].container.resources[0].limits.cpu == "2" &&
      module.ingest[0].instances == { min = 2, max = 100 } && module.ingest[0].concurrency == 1000 &&
      module.aggregator["all"].instances == { min = 2, max = 2 } && module.query[0].instances == { min = 2, max = 50 }
    )
    error_message = "The services do not have the sizes that were asked for."
  }
  assert {
    condition = (
      one([for e in module.ingest[0].container.env : e.value if e.name == "PARTITIONS"]) == "64" &&
      one([for e in module.ingest[0].container.env : e.value if e.name == "PENDING_BYTES"]) == "268435456" &&
      one([for e in module.aggregator["all"].container.env : e.value if e.name == "WINDOW"]) == "2s" &&
      one([for e in module.query[0].container.env : e.value if e.name == "REFRESH"]) == "1s" &&
      one([for e in module.query[0].container.env : e.value if e.name == "RECOGNITION_TIERS"]) == "3,10,100" &&
      alltrue([
        for container in [module.ingest[0].container, module.aggregator["all"].container, module.query[0].container] :
        one([for e in container.env : e.value if e.name == "CORS_ORIGINS"]) == "https://example.com,http://localhost:3000"
      ])
    )
    error_message = "A setting does not reach its program."
  }
  assert {
    condition     = google_firestore_database.this.location_id == "europe-west1" && google_pubsub_topic.increments.message_storage_policy[0].allowed_persistence_regions == toset(["europe-west1"])
    error_message = "Something is outside of the region."
  }
}

# Two deployments in one project have nothing of the same name.
run "named" {
  variables {
    name     = "staging"
    database = "accrue-staging"
    registry = "us-central1-docker.pkg.dev/accrue-test/accrue"
    digests  = { ingest = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" }
    settings = { collection_prefix = "accrue_", hide = ["metrics", "contributors"] }
    budget   = { billing_account = "012345-6789AB-CDEF01", amount = 50 }

    message_schema        = "tests/message.proto"
    archive               = true
    firestore_rules       = "tests/firestore.rules"
    recognitions_endpoint = "https://example.com/recognitions"
  }

  assert {
    condition = alltrue([for name in concat(
      [for t in [google_pubsub_topic.increments, google_pubsub_topic.dead_letter, google_pubsub_topic.recognitions] : t.name],
      [for s in google_pubsub_subscription.aggregator : s.name],
      [google_pubsub_subscription.redrive.name, google_pubsub_subscription.archive[0].name, google_pubsub_subscription.recognitions_push[0].name, google_pubsub_schema.increments[0].name],
    ) : startswith(name, "staging-")])
    error_message = "A topic, a subscription or the schema lacks the name."
  }
  assert {
    condition     = alltrue([for a in google_service_account.this : startswith(a.account_id, "accrue-staging-") && length(a.account_id) <= 30]) && google_bigquery_dataset.archive[0].dataset_id == "staging_accrue"
    error_message = "An account or the data set lacks the name, or an account's id is too long."
  }
  assert {
    condition = alltrue([for m in [
      google_logging_metric.increments, google_logging_metric.faults, google_logging_metric.checkpoint_full, google_logging_metric.checkpoint_filling, google_logging_metric.entries_waiting, google_logging_metric.assertions_failed,
      ] : startswith(m.name, "accrue_staging_") && strcontains(m.filter, "staging-")]) && alltrue([for e in [
      google_logging_project_exclusion.requests, google_logging_project_exclusion.publishes
    ] : startswith(e.name, "accrue-staging-") && strcontains(e.filter, "staging-")])
    error_message = "A log metric or exclusion lacks the name, or takes lines of another deployment."
  }
  assert {
    condition     = alltrue([for a in google_monitoring_alert_policy.this : startswith(a.display_name, "Accrue staging: ")])
    error_message = "An alert does not say of which deployment."
  }
  assert {
    condition = (
      google_firestore_database.this.name == "accrue-staging" && google_firebaserules_release.clients[0].name == "cloud.firestore/accrue-staging" &&
      one([for e in module.query[0].container.env : e.value if e.name == "FIRESTORE_DATABASE"]) == "accrue-staging" &&
      strcontains(google_project_iam_member.database["query"].condition[0].expression, "/databases/accrue-staging\"")
    )
    error_message = "Something uses another database."
  }
  assert {
    condition = alltrue([for f in concat(values(google_firestore_field.unindexed), values(google_firestore_field.queried), values(google_firestore_field.expiring)) : startswith(f.collection, "accrue_")]) && alltrue([
      for container in [module.aggregator["all"].container, module.query[0].container] : one([for e in container.env : e.value if e.name == "COLLECTION_PREFIX"]) == "accrue_"
    ]) && google_firestore_index.due.collection == "accrue_contributors" && google_firestore_index.latest.collection == "accrue_recognitions" && google_firestore_index.latest_of_tier.collection == "accrue_recognitions"
    error_message = "A collection lacks the prefix."
  }
  assert {
    condition     = one([for e in module.ingest[0].container.env : e.value if e.name == "HIDE"]) == "metrics,contributors"
    error_message = "What is to be hidden is not."
  }
  assert {
    condition = (
      length(google_artifact_registry_repository.images) == 0 && output.images == "us-central1-docker.pkg.dev/accrue-test/accrue" &&
      module.ingest[0].container.image == "us-central1-docker.pkg.dev/accrue-test/accrue/ingest@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" &&
      module.query[0].container.image == "us-central1-docker.pkg.dev/accrue-test/accrue/query:0123abc"
    )
    error_message = "The images are not the pinned ones of the other deployment's registry."
  }
  assert {
    condition     = google_billing_budget.this[0].amount[0].specified_amount[0].units == "50" && length(google_billing_budget.this[0].threshold_rules) == 4
    error_message = "The budget is not the one that was asked for."
  }
}

run "restored" {
  variables {
    database          = "accrue"
    restored_database = "accrue-restored"
    firestore_rules   = "tests/firestore.rules"
    backups           = { daily = "604800s", weekly = "8467200s" }
  }

  assert {
    condition = google_firestore_database.this.name == "accrue" && alltrue([
      for container in [module.aggregator["all"].container, module.query[0].container] : one([for e in container.env : e.value if e.name == "FIRESTORE_DATABASE"]) == "accrue-restored"
      ]) && alltrue([for m in google_project_iam_member.database : strcontains(m.condition[0].expression, "/databases/accrue-restored\"")]) && (
      google_firebaserules_release.clients[0].name == "cloud.firestore/accrue-restored"
    )
    error_message = "The services do not use the restored database, or the one before is gone."
  }
  assert {
    condition     = keys(google_firestore_backup_schedule.this) == ["daily", "weekly"] && google_firestore_backup_schedule.this["daily"].retention == "604800s" && alltrue([for b in google_firestore_backup_schedule.this : b.database == "accrue"])
    error_message = "The backups are not those that were asked for."
  }
}

run "single" {
  variables {
    mode = "single"
  }

  assert {
    condition = (
      length(module.ingest) == 0 && length(module.aggregator) == 0 && length(module.query) == 0 &&
      module.single[0].instances == { min = 0, max = 1 } && module.single[0].container.resources[0].cpu_idle && module.single[0].container.resources[0].limits.memory == "256Mi"
    )
    error_message = "It is not one service that sleeps."
  }
  assert {
    condition     = module.single[0].container.args == tolist(["run", "--listen", "0.0.0.0", "--hold", "1s"]) && length([for e in module.single[0].container.env : e if e.name == "PORT"]) == 0
    error_message = "It is not run as it must be."
  }
  assert {
    condition = keys(google_service_account.this) == ["accrue"] && alltrue([for m in concat(values(google_pubsub_topic_iam_member.this), values(google_pubsub_subscription_iam_member.this)) : m.member == google_service_account.this["accrue"].member]) && (
      keys(google_project_iam_member.database) == ["accrue"]
    )
    error_message = "The one program does not have the roles of the three."
  }
  assert {
    condition     = keys(google_monitoring_alert_policy.this) == ["assertion-failed", "dead-letters", "publish-failures"]
    error_message = "An alert fires because it sleeps."
  }
  assert {
    condition     = output.ingest_url == output.query_url
    error_message = "It has two addresses."
  }
}

run "shards" {
  variables {
    aggregator = { shards = 8 }
  }

  # Every shard, and what has none, goes to exactly one subscription.
  assert {
    condition = keys(google_pubsub_subscription.aggregator) == [for i in range(8) : tostring(i)] && keys(module.aggregator) == keys(google_pubsub_subscription.aggregator) && alltrue([
      for value in range(64) : length([for s in google_pubsub_subscription.aggregator : s if strcontains(s.filter, "attributes.shard=\"${value}\"")]) == 1
      ]) && length([for s in google_pubsub_subscription.aggregator : s if strcontains(s.filter, "NOT attributes:shard")]) == 1 && alltrue([
      for s in google_pubsub_subscription.aggregator : length(s.filter) <= 256
    ])
    error_message = "A shard is in no subscription or in two, or a filter is too long."
  }
  assert {
    condition = alltrue([for name, pool in module.aggregator :
      one([for e in pool.container.env : e.value if e.name == "INCREMENTS_SUBSCRIPTION"]) == google_pubsub_subscription.aggregator[name].name
    ]) && length(google_pubsub_subscription_iam_member.this) == 16
    error_message = "A pool pulls from another's subscription, or may not pull from its own."
  }
}

run "shards_measured" {
  variables {
    aggregator = { shards = 8 }
    slos       = {}
  }

  assert {
    condition = length(google_monitoring_slo.freshness) == 8 && alltrue([
      for name, s in google_monitoring_slo.freshness :
      strcontains(s.windows_based_sli[0].metric_mean_in_range[0].time_series, "\"${google_pubsub_subscription.aggregator[trimprefix(name, "freshness-")].name}\"")
    ]) && length(google_monitoring_alert_policy.burn) == 4
    error_message = "A shard has no measure of its freshness, or another's."
  }
}

run "shards_introduced" {
  variables {
    aggregator = { shards = 2, unsharded = true }
  }

  assert {
    condition     = keys(module.aggregator) == ["0", "1", "all"] && google_pubsub_subscription.aggregator["all"].filter == null && alltrue([for s in google_pubsub_subscription.aggregator : length(coalesce(s.filter, "-")) <= 256])
    error_message = "The plain subscription is not drained beside the shards."
  }
}

run "canary" {
  variables {
    canary = { ingest = { stable = "ingest-00001-abc", percent = 10 } }
  }

  assert {
    condition = [for t in module.ingest[0].traffic : "${t.type} ${t.revision == null ? "-" : t.revision} ${t.percent}"] == [
      "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST - 10", "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION ingest-00001-abc 90",
    ] && length(module.query[0].traffic) == 0
    error_message = "The stable revision does not keep nine tenths."
  }
}

run "balanced" {
  variables {
    load_balancer = { domain = "counts.example.com", requests_per_minute = 300 }
  }

  assert {
    condition     = alltrue([for r in [module.ingest[0].reach, module.query[0].reach] : r == { ingress = "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER", default_url = false }])
    error_message = "The load balancer can be gone around."
  }
  assert {
    condition = (
      one([for r in google_compute_security_policy.this[0].rule : r if r.action == "throttle"]).rate_limit_options[0].rate_limit_threshold[0].count == 300 &&
      alltrue([for b in google_compute_backend_service.this : b.security_policy == google_compute_security_policy.this[0].id]) &&
      output.ingest_url == "https://counts.example.com"
    )
    error_message = "A backend is not throttled."
  }
}

run "closed" {
  variables {
    ingress      = "INGRESS_TRAFFIC_INTERNAL_ONLY"
    default_urls = false
  }

  assert {
    condition     = alltrue([for r in [module.ingest[0].reach, module.query[0].reach] : r == { ingress = "INGRESS_TRAFFIC_INTERNAL_ONLY", default_url = false }])
    error_message = "The services can be reached from outside."
  }
}

run "measured" {
  variables {
    collector             = {}
    slos                  = {}
    uptime_checks         = true
    notification_channels = { page = ["projects/accrue-test/notificationChannels/1"], ticket = ["projects/accrue-test/notificationChannels/2"] }
  }

  assert {
    condition = alltrue([for m in [module.ingest[0], module.aggregator["all"], module.query[0]] : strcontains(one(m.collector.env).value, "localhost:8080")]) && (
      keys(google_project_iam_member.metrics) == ["aggregator", "ingest", "query"]
    )
    error_message = "A container has no collector, or may not write metrics."
  }
  assert {
    condition = anytrue([for c in google_monitoring_alert_policy.this["freshness"].conditions : endswith(c.condition_prometheus_query_language[0].query, "{deployment=\"accrue\"}[5m]))) > 2")]) && (
      strcontains(one(module.query[0].collector.env).value, "\"deployment\": \"accrue\"")
    )
    error_message = "The promise is not watched, or that of another deployment."
  }
  assert {
    condition     = google_monitoring_slo.availability[0].goal == 0.999 && { for name, s in google_monitoring_slo.freshness : name => s.goal } == { freshness = 0.99 } && length(google_monitoring_alert_policy.burn) == 4
    error_message = "The SLOs or the alerts on their allowance are missing."
  }
  assert {
    condition = (
      strcontains(google_monitoring_alert_policy.burn["availability-fast"].conditions[0].condition_prometheus_query_language[0].query, "[1h])) > 0.014 and ") &&
      endswith(google_monitoring_alert_policy.burn["freshness-slow"].conditions[0].condition_prometheus_query_language[0].query, "> bool 10)[30m:1m]) > 0.06")
    )
    error_message = "An alert does not compare with what the goal allows."
  }
  assert {
    condition = { for name, c in google_monitoring_uptime_check_config.this : name => "${c.monitored_resource[0].labels.host}${c.http_check[0].path}" } == {
      ingest = "${trimprefix(output.ingest_url, "https://")}/increments", query = "${trimprefix(output.query_url, "https://")}/health/live"
    }
    error_message = "Google asks at another address, or for another path."
  }
  assert {
    condition     = alltrue([for c in google_monitoring_uptime_check_config.this : strcontains(google_monitoring_alert_policy.this["unreachable"].conditions[0].condition_prometheus_query_language[0].query, c.uptime_check_id)])
    error_message = "No alert looks at a check."
  }
  assert {
    condition     = sum([for a in concat(values(google_monitoring_alert_policy.this), values(google_monitoring_alert_policy.burn)) : length(a.conditions)]) == 22
    error_message = "tools/cost has the price of another number of conditions."
  }
  assert {
    condition = alltrue([
      for a in concat(values(google_monitoring_alert_policy.this), values(google_monitoring_alert_policy.burn)) :
      a.notification_channels == tolist(["projects/accrue-test/notificationChannels/${a.severity == "CRITICAL" ? 1 : 2}"])
    ])
    error_message = "A channel gets what is not of its severity."
  }
}
