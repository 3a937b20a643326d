# What Terraform gives the programs is what they read, and where it probes them they answer. contract.json comes from the
# programs themselves: e2e/deployment.

mock_provider "google" {}

variables {
  project   = "accrue-test"
  image_tag = "0123abc"
}

run "contract" {
  module {
    source = "./tests/contract"
  }
}

run "defaults" {
  # Each service gets every variable that it reads and no other: a stranger or a gap fails. Cloud Run sets a service's
  # PORT and refuses another; the aggregator's is the program's default.
  assert {
    condition     = toset([for e in module.ingest[0].container.env : e.name]) == setsubtract(keys(run.contract.services.ingest.environment), ["PORT"])
    error_message = "ingest is not given what it reads."
  }
  assert {
    condition     = toset([for e in module.aggregator["all"].container.env : e.name]) == setsubtract(keys(run.contract.services.aggregator.environment), ["PORT"])
    error_message = "aggregator is not given what it reads."
  }
  assert {
    condition     = toset([for e in module.query[0].container.env : e.name]) == setsubtract(keys(run.contract.services.query.environment), ["PORT"])
    error_message = "query is not given what it reads."
  }

  # By default each variable has the program's own default, topics, subscriptions and the database included.
  assert {
    condition = alltrue(flatten([
      for name, container in { ingest = module.ingest[0].container, aggregator = module.aggregator["all"].container, query = module.query[0].container } : [
        for e in container.env : e.value == (e.name == "GOOGLE_CLOUD_PROJECT" ? "accrue-test" : lookup(run.contract.services[name].environment, e.name, null))
      ]
    ]))
    error_message = "A variable's default in Terraform is not the program's."
  }

  # The topics and the subscription in the programs' settings are those that Terraform creates.
  assert {
    condition = {
      INCREMENTS_TOPIC        = google_pubsub_topic.increments.name
      INCREMENTS_SUBSCRIPTION = google_pubsub_subscription.aggregator["all"].name
      DEAD_LETTER_TOPIC       = google_pubsub_topic.dead_letter.name
      } == {
      for e in module.aggregator["all"].container.env : e.name => e.value
      if contains(["INCREMENTS_TOPIC", "INCREMENTS_SUBSCRIPTION", "DEAD_LETTER_TOPIC"], e.name)
    }
    error_message = "The aggregator's settings name topics or a subscription that do not exist."
  }
  assert {
    condition     = google_pubsub_subscription.aggregator["all"].topic == google_pubsub_topic.increments.id && google_pubsub_subscription.redrive.topic == google_pubsub_topic.dead_letter.id
    error_message = "A subscription is on the wrong topic."
  }

  # The lease is the one that the aggregator was written for.
  assert {
    condition     = google_pubsub_subscription.aggregator["all"].ack_deadline_seconds == run.contract.lease_seconds
    error_message = "The aggregator's subscription has another lease than the aggregator reckons with."
  }

  # Probes ask paths that are served, on the port that is listened on.
  assert {
    condition = alltrue([
      for name, container in { ingest = module.ingest[0].container, aggregator = module.aggregator["all"].container, query = module.query[0].container } :
      container.startup_probe[0].http_get[0].path == run.contract.services[name].health.live &&
      container.liveness_probe[0].http_get[0].path == run.contract.services[name].health.live &&
      tostring(container.startup_probe[0].http_get[0].port) == run.contract.services[name].environment.PORT &&
      tostring(container.liveness_probe[0].http_get[0].port) == run.contract.services[name].environment.PORT
    ])
    error_message = "A probe asks a path or a port that its program does not serve."
  }
  assert {
    condition = alltrue([
      for name, container in { ingest = module.ingest[0].container, query = module.query[0].container } :
      tostring(container.ports[0].container_port) == run.contract.services[name].environment.PORT
    ])
    error_message = "A service's port is not the one that its program listens on."
  }

  # No collection that the programs write is indexed by default.
  assert {
    condition     = length(setsubtract(run.contract.collections, [for f in google_firestore_field.unindexed : f.collection])) == 0
    error_message = "A collection that the programs write has indexes on all fields."
  }
}

run "readiness" {
  variables {
    readiness_probes = true
  }

  assert {
    condition = alltrue([
      for name, container in { ingest = module.ingest[0].container, query = module.query[0].container } :
      container.readiness_probe[0].http_get[0].path == run.contract.services[name].health.ready &&
      tostring(container.readiness_probe[0].http_get[0].port) == run.contract.services[name].environment.PORT
    ])
    error_message = "A readiness probe asks a path or a port that its program does not serve."
  }
}
