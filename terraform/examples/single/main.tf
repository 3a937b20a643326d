# One service that sleeps without requests, for a few thousand increments a day: within the free quotas.

terraform {
  required_version = ">= 1.9"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 7.45, < 8"
    }
  }

  # terraform init -backend-config=bucket=BUCKET -backend-config=prefix=accrue/single
  backend "gcs" {}
}

provider "google" {
  project        = var.project
  region         = var.region
  default_labels = { app = "accrue" }
}

module "accrue" {
  source = "../.."

  mode      = "single"
  project   = var.project
  region    = var.region
  image_tag = var.image_tag

  settings = { new_tags_per_minute = 100 }
  alerts   = false # each condition costs, from 2026 on
}
