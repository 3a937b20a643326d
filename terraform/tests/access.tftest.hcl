# Who may do what, to the letter. A role that is added, widened or moved fails here and must be written down again.

mock_provider "google" {}

variables {
  project   = "accrue-test"
  image_tag = "0123abc"
}

run "defaults" {
  assert {
    condition     = length(distinct([for a in google_service_account.this : a.member])) == 3 && keys(google_service_account.this) == ["aggregator", "ingest", "query"]
    error_message = "Each program has an account of its own, and there is no other."
  }

  # One topic, one subscription, one database each.
  assert {
    condition = toset([for m in google_pubsub_topic_iam_member.this : "${m.member} ${m.role} ${m.topic}"]) == toset([
      "${google_service_account.this["ingest"].member} roles/pubsub.publisher increments",
      "${google_service_account.this["ingest"].member} roles/pubsub.viewer increments",
      "${google_service_account.this["aggregator"].member} roles/pubsub.publisher increments-dead-letter",
      "${google_service_account.this["query"].member} roles/pubsub.publisher recognitions",
    ])
    error_message = "The roles on topics are not the ones that the programs need."
  }
  assert {
    condition = toset([for m in google_pubsub_subscription_iam_member.this : "${m.member} ${m.role} ${m.subscription}"]) == toset([
      "${google_service_account.this["aggregator"].member} roles/pubsub.subscriber increments-aggregator",
      "${google_service_account.this["aggregator"].member} roles/pubsub.viewer increments-aggregator",
    ])
    error_message = "The roles on the subscription are not the ones that the aggregator needs."
  }
  assert {
    condition = toset([for m in google_project_iam_member.database : "${m.member} ${m.role} ${m.condition[0].expression}"]) == toset([
      for who in ["aggregator", "query"] :
      "${google_service_account.this[who].member} roles/datastore.user resource.name == \"projects/accrue-test/databases/(default)\""
    ])
    error_message = "The roles on the project are more than the aggregator's and query's use of the one database."
  }

  # Each container runs as its own account.
  assert {
    condition = (
      module.ingest[0].account == google_service_account.this["ingest"].email &&
      module.aggregator["all"].account == google_service_account.this["aggregator"].email &&
      module.query[0].account == google_service_account.this["query"].email
    )
    error_message = "A container runs as another's account."
  }

  # The services are public by mission; the aggregator cannot be called at all.
  assert {
    condition     = module.ingest[0].invokers == ["roles/run.invoker allUsers"] && module.query[0].invokers == ["roles/run.invoker allUsers"]
    error_message = "The services are not public by default."
  }
  assert {
    condition     = module.aggregator["all"].worker && module.aggregator["all"].url == null && module.aggregator["all"].invokers == []
    error_message = "The aggregator is a worker pool: it has no address and no invoker."
  }
  assert {
    condition     = !module.ingest[0].worker && !module.query[0].worker
    error_message = "Ingest and query are services."
  }
}

run "private" {
  variables {
    invokers = { ingest = ["serviceAccount:producer@example.iam.gserviceaccount.com"], query = [] }
  }

  assert {
    condition     = module.ingest[0].invokers == ["roles/run.invoker serviceAccount:producer@example.iam.gserviceaccount.com"] && module.query[0].invokers == []
    error_message = "Others than those named may call the services."
  }
}
