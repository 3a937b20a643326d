# Staging: as production, but small, with a name before everything, so that it may share the project and its images.

terraform {
  required_version = ">= 1.9"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 7.45, < 8"
    }
  }

  # terraform init -backend-config=bucket=BUCKET -backend-config=prefix=accrue/staging
  backend "gcs" {}
}

provider "google" {
  project        = var.project
  region         = var.region
  default_labels = { app = "accrue", environment = "staging" }
}

module "accrue" {
  source = "../.."

  name      = "staging"
  project   = var.project
  region    = var.region
  image_tag = var.image_tag
  digests   = var.digests
  registry  = var.registry
  database  = "accrue-staging"

  database_protected = false
  invokers           = { ingest = var.members, query = var.members }
  alerts             = false
}
