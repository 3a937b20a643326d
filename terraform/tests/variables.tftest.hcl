# What is refused before anything is made.

mock_provider "google" {}

variables {
  project   = "accrue-test"
  image_tag = "0123abc"
}

run "a_project_s_number" {
  command = plan
  variables {
    project = "123456789012"
  }
  expect_failures = [var.project]
}

run "a_tag_that_moves" {
  command = plan
  variables {
    image_tag = "latest"
  }
  expect_failures = [var.image_tag]
}

run "a_multi_region_for_services" {
  command = plan
  variables {
    region = "eur3"
  }
  expect_failures = [var.region]
}

run "settings_out_of_bounds" {
  command = plan
  variables {
    settings = { log_level = "loud", partitions = 5000, commit_documents = 0, window = "soon" }
  }
  expect_failures = [var.settings, var.settings, var.settings, var.settings]
}

run "tiers_that_do_not_rise" {
  command = plan
  variables {
    settings = { recognition_tiers = [3, 3] }
  }
  expect_failures = [var.settings]
}

run "no_tiers" {
  command = plan
  variables {
    settings = { recognition_tiers = [] }
  }
  expect_failures = [var.settings]
}

run "an_origin_with_a_path" {
  command = plan
  variables {
    settings = { cors_origins = ["https://example.com/"] }
  }
  expect_failures = [var.settings]
}

run "more_pending_than_memory" {
  command = plan
  variables {
    settings = { pending_bytes = 268435456 }
  }
  expect_failures = [var.ingest]
}

run "more_buffer_than_memory" {
  command = plan
  variables {
    aggregator = { memory = "256Mi" }
  }
  expect_failures = [var.aggregator]
}

run "query_scaled_to_nothing" {
  command = plan
  variables {
    query = { min_instances = 0 }
  }
  expect_failures = [var.query]
}

run "an_invoker_that_is_no_member" {
  command = plan
  variables {
    invokers = { query = ["everybody"] }
  }
  expect_failures = [var.invokers]
}

run "retention_that_pubsub_does_not_have" {
  command = plan
  variables {
    message_retention = "7d"
  }
  expect_failures = [var.message_retention]
}

run "an_archive_without_columns" {
  command = plan
  variables {
    archive = true
  }
  expect_failures = [var.archive]
}

run "an_endpoint_in_the_open" {
  command = plan
  variables {
    recognitions_endpoint = "http://example.com"
  }
  expect_failures = [var.recognitions_endpoint]
}

run "an_address_that_is_none" {
  command = plan
  variables {
    alert_emails = ["not-an-address"]
  }
  expect_failures = [var.alert_emails]
}

run "traces_to_nowhere" {
  command = plan
  variables {
    traces = { endpoint = "collector.internal:4318", protocol = "http/json", ratio = 2 }
  }
  expect_failures = [var.traces, var.traces, var.traces]
}

run "a_mode_that_is_none" {
  command = plan
  variables {
    mode = "double"
  }
  expect_failures = [var.mode]
}

run "a_name_that_is_too_long_for_accounts" {
  command = plan
  variables {
    name = "production1"
  }
  expect_failures = [var.name]
}

run "a_database_out_of_bounds" {
  command = plan
  variables {
    database = "Accrue"
  }
  expect_failures = [var.database]
}

run "a_restored_database_out_of_bounds" {
  command = plan
  variables {
    restored_database = "ab"
  }
  expect_failures = [var.restored_database]
}

run "a_database_restored_into_itself" {
  command = plan
  variables {
    database          = "accrue"
    restored_database = "accrue"
  }
  expect_failures = [var.restored_database]
}

run "pins_and_places_that_are_none" {
  command = plan
  variables {
    digests               = { query = "0123abc" }
    registry              = "docker.io/accrue"
    ingress               = "EVERYWHERE"
    backups               = { daily = "3600s" }
    notification_channels = { page = ["oncall@example.com"] }
    canary                = { query = { stable = "", percent = 10 } }
  }
  expect_failures = [var.digests, var.registry, var.ingress, var.backups, var.notification_channels, var.canary]
}

run "edges_out_of_bounds" {
  command = plan
  variables {
    load_balancer = { domain = "localhost", requests_per_minute = 0 }
    budget        = { billing_account = "mine", amount = 0.5 }
    slos          = { availability = 1 }
    collector     = { image = "otelcol:latest" }
  }
  expect_failures = [var.load_balancer, var.load_balancer, var.budget, var.budget, var.slos, var.collector]
}

run "what_a_single_service_does_not_have" {
  command = plan
  variables {
    mode       = "single"
    aggregator = { shards = 2 }
    slos       = {}
    collector  = {}
  }
  expect_failures = [var.aggregator, var.slos, var.collector]
}

run "shards_whose_filters_do_not_fit" {
  command = plan
  variables {
    aggregator = { shards = 4 }
  }
  expect_failures = [var.aggregator]
}

run "collections_and_hidden_things_that_are_none" {
  command = plan
  variables {
    settings = { collection_prefix = "1/", hide = ["docs"] }
  }
  expect_failures = [var.settings, var.settings]
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
