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
      "publisher", "partition", "sequence", "accepted_at", "increments", "contributions", "subscription_name", "message_id", "publish_time", "attributes",
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
      google_pubsub_subscription.recognitions_push[0].push_config[0].oidc_token[0].service_account_email == google_service_account.this["recognitions-push"].email
    )
    error_message = "Recognitions are not pushed as signed CloudEvents."
  }
  assert {
    condition     = keys(google_service_account_iam_member.pubsub) == ["recognitions-push"] && contains([for c in google_monitoring_alert_policy.this["recognitions-stuck"].conditions : c.display_name], "the endpoint does not accept them")
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
      for container in [module.ingest.container, module.aggregator.container, module.query.container] : {
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
      module.ingest.container.resources[0].cpu_idle == false && module.ingest.container.resources[0].limits.cpu == "2" &&
      module.ingest.instances == { min = 2, max = 100 } && module.ingest.concurrency == 1000 &&
      module.aggregator.instances == { min = 2, max = 2 } && module.query.instances == { min = 2, max = 50 }
    )
    error_message = "The services do not have the sizes that were asked for."
  }
  assert {
    condition = (
      one([for e in module.ingest.container.env : e.value if e.name == "PARTITIONS"]) == "64" &&
      one([for e in module.ingest.container.env : e.value if e.name == "PENDING_BYTES"]) == "268435456" &&
      one([for e in module.aggregator.container.env : e.value if e.name == "WINDOW"]) == "2s" &&
      one([for e in module.query.container.env : e.value if e.name == "REFRESH"]) == "1s" &&
      one([for e in module.query.container.env : e.value if e.name == "RECOGNITION_TIERS"]) == "3,10,100" &&
      alltrue([
        for container in [module.ingest.container, module.aggregator.container, module.query.container] :
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
