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

variable "registry" {
  description = "The registry of production: its output accrue.images."
  type        = string
}

variable "members" {
  description = "Who may call staging."
  type        = set(string)
  default     = []
}
