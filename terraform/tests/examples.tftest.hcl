# Each example plans as it is, with what it asks of whoever uses it.

mock_provider "google" {}

variables {
  project   = "accrue-test"
  image_tag = "0123abc"
}

run "production" {
  module {
    source = "./examples/production"
  }
  variables {
    billing_account = "012345-6789AB-CDEF01"
    domain          = "counts.example.com"
    alert_emails    = ["oncall@example.com"]
  }

  assert {
    condition     = output.accrue.ingest_url == "https://counts.example.com" && strcontains(output.accrue.public, "600 requests a minute") && strcontains(output.accrue.public, "A budget of 200")
    error_message = "Production is not bounded."
  }
}

run "production_without_options" {
  module {
    source = "./examples/production"
  }

  assert {
    condition     = strcontains(output.accrue.public, "Nothing limits the rate") && strcontains(output.accrue.public, "No budget")
    error_message = "The plan does not say what is not bounded."
  }
}

run "staging" {
  module {
    source = "./examples/staging"
  }
  variables {
    registry = "us-central1-docker.pkg.dev/accrue-test/accrue"
    members  = ["group:developers@example.com"]
  }

  assert {
    condition     = strcontains(output.accrue.public, "Only the members")
    error_message = "Staging is open to all."
  }
}

run "single" {
  module {
    source = "./examples/single"
  }

  assert {
    condition     = output.accrue.ingest_url == output.accrue.query_url
    error_message = "The single service has two addresses."
  }
}
