variable "project" {
  description = "Id of the Google Cloud project."
  type        = string
}

variable "region" {
  description = "Region of everything."
  type        = string
  default     = "us-central1"
}

variable "image_tag" {
  description = "Tag of the images."
  type        = string
}

variable "digests" {
  description = "Digests of the images, in place of the tag."
  type        = map(string)
  default     = {}
}

variable "restored_database" {
  description = "A restored database that takes the place of `accrue`."
  type        = string
  default     = null
}

variable "canary" {
  description = "Revisions that keep most of the traffic while a new one is tried."
  type        = map(object({ stable = string, percent = number }))
  default     = {}
}

variable "billing_account" {
  description = "Billing account of the budget; null for no budget."
  type        = string
  default     = null
}

variable "domain" {
  description = "Domain of the load balancer that limits each caller; null for none."
  type        = string
  default     = null
}

variable "alert_emails" {
  description = "Who gets the alerts."
  type        = set(string)
  default     = []
}
