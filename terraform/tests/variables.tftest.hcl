# What is refused before anything is made, and the ends of what is accepted. e2e/deployment checks that each validation of each
# variable is refused in a run of its own, and that each variable is set in a run that succeeds.

mock_provider "google" {}

variables {
  project   = "accrue-test"
  image_tag = "0123abc"
}

run "the_least_of_everything" {
  command = plan
  variables {
    name              = "a"
    database          = "abcd"
    restored_database = "abce"
    region            = "us-west1"
    mode              = "services"
    readiness_probes  = false
    firestore_rules   = null
    settings = {
      log_level        = "debug", partitions = 1, tags = ["a*"], new_tags_per_minute = 0, pending_bytes = 8388608, window = "50ms", tag_documents = "1s",
      commit_documents = 1, commits = 1, buffer_bytes = 1048576, idempotency_horizon = "1m", idempotency_keys = 1000, refresh = "10ms",
      metrics_tags     = 1, recognition_tiers = [1], collection_prefix = "a", hide = [], cors_origins = ["http://a"]
    }
    ingest            = { memory = "32Mi", min_instances = 0, max_instances = 1, concurrency = 1 }
    query             = { min_instances = 1, max_instances = 1, concurrency = 1 }
    aggregator        = { memory = "5Mi", instances = 0, shards = 1 }
    invokers          = { ingest = [], query = [] }
    load_balancer     = { domain = "a.de", requests_per_minute = 1 }
    budget            = { billing_account = "012345-6789AB-CDEF01", amount = 1 }
    canary            = { ingest = { stable = "a", percent = 0 } }
    backups           = { daily = "86400s" }
    message_retention = "600s"
    traces            = { endpoint = "http://a", ratio = 0 }
    slos              = { availability = 0.5, freshness = 0.5 }
  }

  assert {
    condition     = google_pubsub_topic.increments.message_retention_duration == "600s"
    error_message = "The least is not what is planned."
  }
}

run "the_most_of_everything" {
  command = plan
  variables {
    name     = "abcdefghij"
    database = "a23456789-123456789-123456789-123456789-123456789-123456789-123"
    mode     = "services"
    settings = {
      log_level        = "error", partitions = 4096, tags = ["abc", "d_*"], new_tags_per_minute = 1000000, window = "20s", tag_documents = "24h",
      commit_documents = 5000, commits = 10000, idempotency_horizon = "816h", refresh = "60s",
      metrics_tags     = 100000, recognition_tiers = [for i in range(20) : i + 1], collection_prefix = "a23456789_123456789_123456789_123456789_123456789_123456789_123"
      hide             = ["metrics", "contributors"], cors_origins = [for i in range(100) : "https://${i}.example.com"]
    }
    ingest            = { min_instances = 3, max_instances = 3, concurrency = 1000 }
    query             = { min_instances = 3, max_instances = 3, concurrency = 1000 }
    aggregator        = { instances = 10, shards = 32 }
    load_balancer     = { domain = "a.b.example.com", requests_per_minute = 1000000 }
    canary            = { query = { stable = "a", percent = 99 } }
    backups           = { weekly = "8467200s" }
    message_retention = "2678400s"
    traces            = { endpoint = "https://a:4317", protocol = "grpc", ratio = 1 }
    slos              = { availability = 0.9999, freshness = 0.9999 }
  }

  assert {
    condition     = google_pubsub_topic.increments.message_retention_duration == "2678400s"
    error_message = "The most is not what is planned."
  }
}

run "a_single_service_by_minutes" {
  command = plan
  variables {
    mode     = "single"
    settings = { tag_documents = "1440m", idempotency_horizon = "48960m", window = "1s", refresh = "1000ms" }
  }

  assert {
    condition     = length(module.single) == 1
    error_message = "It is not single."
  }
}

run "refuses_log_level" {
  command = plan
  variables {
    settings = { log_level = "loud" }
  }
  expect_failures = [var.settings]
}

run "refuses_partitions" {
  command = plan
  variables {
    settings = { partitions = 0 }
  }
  expect_failures = [var.settings]
}

run "refuses_partitions_2" {
  command = plan
  variables {
    settings = { partitions = 4097 }
  }
  expect_failures = [var.settings]
}

run "refuses_commits" {
  command = plan
  variables {
    settings = { commits = 0 }
  }
  expect_failures = [var.settings]
}

run "refuses_commits_2" {
  command = plan
  variables {
    settings = { commits = 10001 }
  }
  expect_failures = [var.settings]
}

run "refuses_commit_documents" {
  command = plan
  variables {
    settings = { commit_documents = 0 }
  }
  expect_failures = [var.settings]
}

run "refuses_commit_documents_2" {
  command = plan
  variables {
    settings = { commit_documents = 5001 }
  }
  expect_failures = [var.settings]
}

run "refuses_pending_bytes" {
  command = plan
  variables {
    settings = { pending_bytes = 8388607 }
  }
  expect_failures = [var.settings]
}

run "refuses_buffer_bytes" {
  command = plan
  variables {
    settings = { buffer_bytes = 1048575 }
  }
  expect_failures = [var.settings]
}

run "refuses_idempotency_keys" {
  command = plan
  variables {
    settings = { idempotency_keys = 999 }
  }
  expect_failures = [var.settings]
}

run "refuses_new_tags_per_minute" {
  command = plan
  variables {
    settings = { new_tags_per_minute = -1 }
  }
  expect_failures = [var.settings]
}

run "refuses_new_tags_per_minute_2" {
  command = plan
  variables {
    settings = { new_tags_per_minute = 1000001 }
  }
  expect_failures = [var.settings]
}

run "refuses_tags" {
  command = plan
  variables {
    settings = { tags = ["Foo"] }
  }
  expect_failures = [var.settings]
}

run "refuses_idempotency_horizon" {
  command = plan
  variables {
    settings = { idempotency_horizon = "1s" }
  }
  expect_failures = [var.settings]
}

run "refuses_idempotency_horizon_2" {
  command = plan
  variables {
    settings = { idempotency_horizon = "817h" }
  }
  expect_failures = [var.settings]
}

run "refuses_tag_documents" {
  command = plan
  variables {
    settings = { tag_documents = "0s" }
  }
  expect_failures = [var.settings]
}

run "refuses_tag_documents_2" {
  command = plan
  variables {
    settings = { tag_documents = "25h" }
  }
  expect_failures = [var.settings]
}

run "refuses_window" {
  command = plan
  variables {
    settings = { window = "49ms" }
  }
  expect_failures = [var.settings]
}

run "refuses_window_2" {
  command = plan
  variables {
    settings = { window = "21s" }
  }
  expect_failures = [var.settings]
}

run "refuses_refresh" {
  command = plan
  variables {
    settings = { refresh = "9ms" }
  }
  expect_failures = [var.settings]
}

run "refuses_refresh_2" {
  command = plan
  variables {
    settings = { refresh = "61s" }
  }
  expect_failures = [var.settings]
}

run "refuses_metrics_tags" {
  command = plan
  variables {
    settings = { metrics_tags = 0 }
  }
  expect_failures = [var.settings]
}

run "refuses_metrics_tags_2" {
  command = plan
  variables {
    settings = { metrics_tags = 100001 }
  }
  expect_failures = [var.settings]
}

run "refuses_recognition_tiers" {
  command = plan
  variables {
    settings = { recognition_tiers = [] }
  }
  expect_failures = [var.settings]
}

run "refuses_recognition_tiers_2" {
  command = plan
  variables {
    settings = { recognition_tiers = [3, 3] }
  }
  expect_failures = [var.settings]
}

run "refuses_collection_prefix" {
  command = plan
  variables {
    settings = { collection_prefix = "1/" }
  }
  expect_failures = [var.settings]
}

run "refuses_hide" {
  command = plan
  variables {
    settings = { hide = ["docs"] }
  }
  expect_failures = [var.settings]
}

run "refuses_cors_origins" {
  command = plan
  variables {
    settings = { cors_origins = ["https://example.com/"] }
  }
  expect_failures = [var.settings]
}

run "low_or_short" {
  command = plan
  variables {
    project               = "abc"
    image_tag             = "latest"
    digests               = { query = "0123abc" }
    name                  = "1a"
    database              = "abc"
    registry              = "docker.io/accrue"
    region                = "eur3"
    query                 = { min_instances = 0 }
    aggregator            = { instances = -1 }
    invokers              = { query = ["everybody"] }
    load_balancer         = { domain = "a.de", requests_per_minute = 0 }
    budget                = { billing_account = "012345-6789AB-CDEF01", amount = 0 }
    canary                = { query = { stable = "a", percent = -1 } }
    backups               = { daily = "86399s" }
    message_retention     = "599s"
    traces                = { endpoint = "http://a", ratio = -1 }
    recognitions_endpoint = "http://example.com"
    recognition_webhooks  = { receivers = { crm = "http://crm.example/" }, secret = "webhooks" }
    alert_emails          = ["not-an-address"]
    notification_channels = { page = ["oncall@example.com"] }
    slos                  = { availability = 0.49 }
    ingress               = "EVERYWHERE"
  }
  expect_failures = [var.project, var.image_tag, var.digests, var.name, var.database, var.registry, var.region, var.query, var.aggregator, var.invokers, var.load_balancer, var.budget, var.canary, var.backups, var.message_retention, var.traces, var.recognitions_endpoint, var.recognition_webhooks, var.alert_emails, var.notification_channels, var.slos, var.ingress]
}

run "high_or_long" {
  command = plan
  variables {
    project               = "123456789012"
    image_tag             = "a b"
    digests               = { query = "sha256:0123abc" }
    name                  = "production1"
    database              = "Accrue"
    region                = "us"
    query                 = { min_instances = 4 }
    invokers              = { ingest = ["user:"] }
    load_balancer         = { domain = "a.de", requests_per_minute = 1000001 }
    budget                = { billing_account = "012345-6789AB-CDEF01", amount = 1.5 }
    canary                = { query = { stable = "a", percent = 100 } }
    backups               = { daily = "8467201s" }
    message_retention     = "2678401s"
    traces                = { endpoint = "http://a", ratio = 1.1 }
    slos                  = { freshness = 1 }
    notification_channels = { ticket = ["projects/a"] }
    ingest                = { min_instances = -1 }
  }
  expect_failures = [var.project, var.image_tag, var.digests, var.name, var.database, var.region, var.query, var.invokers, var.load_balancer, var.budget, var.canary, var.backups, var.message_retention, var.traces, var.slos, var.notification_channels, var.ingest]
}

run "of_another_form" {
  command = plan
  variables {
    canary            = { query = { stable = "", percent = 10 } }
    message_retention = "7d"
    traces            = { endpoint = "collector.internal:4318" }
    load_balancer     = { domain = "localhost" }
    budget            = { billing_account = "mine", amount = 1 }
    query             = { concurrency = 0 }
    ingest            = { concurrency = 0 }
    collector         = { image = "otelcol:latest" }
    aggregator        = { shards = 4 }
  }
  expect_failures = [var.canary, var.message_retention, var.traces, var.load_balancer, var.budget, var.query, var.ingest, var.collector, var.aggregator]
}

run "of_no_such_protocol" {
  command = plan
  variables {
    restored_database = "ab"
    traces            = { endpoint = "http://a", protocol = "http/json" }
    query             = { concurrency = 1001 }
    ingest            = { concurrency = 1001 }
    collector         = { image = "otelcol" }
  }
  expect_failures = [var.restored_database, var.traces, var.query, var.ingest, var.collector]
}

run "fewer_at_most_than_at_least" {
  command = plan
  variables {
    restored_database = "Restored"
    ingest            = { min_instances = 4, max_instances = 3 }
  }
  expect_failures = [var.restored_database, var.ingest]
}

run "more_than_memory" {
  command = plan
  variables {
    ingest     = { memory = "255Mi" }
    aggregator = { memory = "256Mi" }
  }
  expect_failures = [var.ingest, var.aggregator]
}

run "memory_of_no_unit" {
  command = plan
  variables {
    ingest     = { memory = "1G" }
    aggregator = { memory = "1G" }
  }
  expect_failures = [var.ingest, var.aggregator]
}

run "a_database_restored_into_itself" {
  command = plan
  variables {
    database          = "accrue"
    restored_database = "accrue"
  }
  expect_failures = [var.restored_database]
}

run "an_archive_without_columns" {
  command = plan
  variables {
    archive = true
  }
  expect_failures = [var.archive]
}

run "what_a_single_service_does_not_have" {
  command = plan
  variables {
    mode          = "single"
    aggregator    = { shards = 2 }
    slos          = {}
    collector     = {}
    uptime_checks = true
  }
  expect_failures = [var.aggregator, var.slos, var.collector, var.uptime_checks]
}

run "uptime_checks_of_what_is_closed" {
  command = plan
  variables {
    uptime_checks = true
    invokers      = { query = [] }
  }
  expect_failures = [var.uptime_checks]
}

run "uptime_checks_of_what_has_no_address" {
  command = plan
  variables {
    uptime_checks = true
    default_urls  = false
  }
  expect_failures = [var.uptime_checks]
}

run "a_mode_that_is_none" {
  command = plan
  variables {
    mode = "double"
  }
  expect_failures = [var.mode]
}
