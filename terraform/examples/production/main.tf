# Production: three services, backups, a budget, alerts by severity. Copy the folder, and change what is yours.

terraform {
  required_version = ">= 1.9"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 7.45, < 8"
    }
  }

  # terraform init -backend-config=bucket=BUCKET -backend-config=prefix=accrue/production
  backend "gcs" {}
}

provider "google" {
  project               = var.project
  region                = var.region
  default_labels        = { app = "accrue", environment = "production" }
  billing_project       = var.project # whose quota the budget's API uses
  user_project_override = true
}

module "accrue" {
  source = "../.."

  project   = var.project
  region    = var.region
  image_tag = var.image_tag
  digests   = var.digests
  database  = "accrue"

  restored_database = var.restored_database
  canary            = var.canary
  query             = { min_instances = 2, max_instances = 3 }

  # Restored: docs/operate.md.
  database_recovery = true
  backups           = { daily = "604800s", weekly = "8467200s" }
  message_retention = "604800s"

  # Affordable: docs/abuse.md.
  budget        = var.billing_account == null ? null : { billing_account = var.billing_account, amount = 200 }
  load_balancer = var.domain == null ? null : { domain = var.domain }
  settings      = { new_tags_per_minute = 1000, hide = ["metrics"] }

  # Seen.
  collector     = {}
  slos          = {}
  uptime_checks = true
  alert_emails  = var.alert_emails
}
