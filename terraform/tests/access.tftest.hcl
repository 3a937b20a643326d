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

run "webhooks" {
  variables {
    recognition_webhooks = { receivers = { crm = "https://crm.example/recognitions", mail = "https://mail.example/" }, secret = "accrue-webhooks", version = "3" }
  }

  assert {
    condition = toset([for m in google_pubsub_subscription_iam_member.webhook : "${m.member} ${m.role} ${m.subscription}"]) == toset([
      for name in ["crm", "mail"] : "${google_service_account.this["query"].member} roles/pubsub.subscriber recognitions-webhook-${name}"
    ])
    error_message = "Query does not pull what its receivers get, or pulls more."
  }
  assert {
    condition = [for m in google_secret_manager_secret_iam_member.webhooks : "${m.member} ${m.role} ${m.secret_id}"] == [
      "${google_service_account.this["query"].member} roles/secretmanager.secretAccessor accrue-webhooks"
    ]
    error_message = "Query does not read the one secret, or others do."
  }
  assert {
    condition = one([for e in module.query[0].container.env : e.value if e.name == "RECOGNITION_WEBHOOKS"]) == "crm=https://crm.example/recognitions,mail=https://mail.example/" && [
      for e in module.query[0].container.env : "${e.value_source[0].secret_key_ref[0].secret} ${e.value_source[0].secret_key_ref[0].version}" if e.name == "RECOGNITION_WEBHOOK_SECRETS"
    ] == ["accrue-webhooks 3"]
    error_message = "Query is not given its receivers, or their secrets are not taken from Secret Manager."
  }
  assert {
    condition     = alltrue([for s in google_pubsub_subscription.webhook : s.topic == google_pubsub_topic.recognitions.id && s.ack_deadline_seconds == 30 && s.expiration_policy[0].ttl == ""])
    error_message = "A receiver's subscription is not one to recognitions that stays."
  }
  assert {
    condition     = contains([for c in google_monitoring_alert_policy.this["recognitions-stuck"].conditions : c.display_name], "a webhook does not accept them")
    error_message = "A receiver that does not answer raises no alert."
  }
  assert {
    condition     = contains(keys(google_project_service.this), "secretmanager.googleapis.com")
    error_message = "The API of Secret Manager is off."
  }
}
