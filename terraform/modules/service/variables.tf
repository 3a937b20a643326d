variable "kind" {
  description = "What runs the container: service (HTTP, scaled by requests) or worker (no URL, a fixed number of instances, CPU always on)."
  type        = string

  validation {
    condition     = contains(["service", "worker"], var.kind)
    error_message = "kind is service or worker."
  }
}

variable "name" {
  description = "Name of the Cloud Run service or worker pool."
  type        = string
}

variable "description" {
  description = "One line for the console."
  type        = string
}

variable "region" {
  description = "Region that it runs in."
  type        = string
}

variable "service_account" {
  description = "E-mail of the account that it runs as."
  type        = string
}

variable "image" {
  description = "Container image, with a tag or digest that does not move."
  type        = string
}

variable "environment" {
  description = "Environment variables: exactly the settings that the program reads. A service gets PORT from Cloud Run."
  type        = map(string)
}

variable "secrets" {
  description = "Environment variables whose values are secrets of the project in Secret Manager: their ids and versions."
  type        = map(object({ secret = string, version = string }))
  default     = {}
}

variable "arguments" {
  description = "Arguments of the program; null for those of the image."
  type        = list(string)
  default     = null
}

variable "ingress" {
  description = "Service only: where requests may come from."
  type        = string
  default     = "INGRESS_TRAFFIC_ALL"
}

variable "default_url" {
  description = "Service only: whether it has an address under run.app."
  type        = bool
  default     = true
}

variable "canary" {
  description = "Service only: the revision that keeps the traffic, and the percentage that the latest one gets."
  type        = object({ stable = string, percent = number })
  default     = null
}

variable "collector" {
  description = "The OpenTelemetry Collector beside the program: its image, and its configuration as YAML."
  type        = object({ image = string, config = string })
  default     = null
}

variable "cpu" {
  description = "vCPUs of one instance."
  type        = string
}

variable "memory" {
  description = "Memory of one instance."
  type        = string
}

variable "instances" {
  description = "Minimum and maximum number of instances. A worker always has min."
  type        = object({ min = number, max = number })
}

variable "cpu_idle" {
  description = "Service only: whether CPU is allocated, and billed, during requests only. Unset would silently mean always."
  type        = bool
  default     = false
}

variable "concurrency" {
  description = "Service only: maximum concurrent requests of one instance."
  type        = number
  default     = null
}

variable "timeout_seconds" {
  description = "Service only: maximum duration of a request."
  type        = number
  default     = 60
}

variable "readiness_probe" {
  description = "Service only: whether instances that are not ready get no traffic. A preview feature of Cloud Run."
  type        = bool
  default     = false
}

variable "invokers" {
  description = "Service only: IAM members that may call it."
  type        = set(string)
  default     = []
}
