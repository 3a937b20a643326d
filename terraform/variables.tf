# Required.

variable "project" {
  description = "Id of the Google Cloud project. It must have billing."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "project is a project's id, not its name or number: 6 to 30 lower-case letters, digits and hyphens."
  }
}

variable "image_tag" {
  description = "Tag of the three images in the project's registry, such as a commit's hash. See docs/deploy.md for how they get there."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$", var.image_tag)) && var.image_tag != "latest"
    error_message = "image_tag is a tag that does not move: latest would leave the old revision running."
  }
}

variable "digests" {
  description = "Digests of the images, sha256:..., in place of image_tag. `accrue` is the image of mode single."
  type = object({
    ingest     = optional(string)
    aggregator = optional(string)
    query      = optional(string)
    accrue     = optional(string)
  })
  default = {}

  validation {
    condition     = alltrue([for d in values(var.digests) : d == null || can(regex("^sha256:[0-9a-f]{64}$", d))])
    error_message = "digests are sha256: and 64 hexadecimal digits."
  }
}

# What, and where.

variable "mode" {
  description = "services: ingest, aggregator and query, for any load. single: everything in one service that sleeps without requests, for a few thousand increments a day."
  type        = string
  default     = "services"

  validation {
    condition     = contains(["services", "single"], var.mode)
    error_message = "mode is services or single."
  }
}

variable "name" {
  description = "Name of this deployment, before the names of everything, such as staging: so that several share a project. Empty for the only one."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^([a-z][a-z0-9]{0,9})?$", var.name))
    error_message = "name is empty, or up to ten lower-case letters and digits with a letter first."
  }
}

variable "database" {
  description = "Id of the Firestore database that is created. (default) is for a project without another application."
  type        = string
  default     = "(default)"

  validation {
    condition     = can(regex("^(\\(default\\)|[a-z][a-z0-9-]{2,61}[a-z0-9])$", var.database))
    error_message = "database is (default), or 4 to 63 lower-case letters, digits and hyphens."
  }
}

variable "restored_database" {
  description = "Id of a database that was restored beside the one above and takes its place; null for none: docs/operate.md."
  type        = string
  default     = null

  validation {
    condition     = var.restored_database == null || (can(regex("^[a-z][a-z0-9-]{2,61}[a-z0-9]$", var.restored_database)) && var.restored_database != var.database)
    error_message = "restored_database is the id of another database than database."
  }
}

variable "registry" {
  description = "Path of a registry that has the images, such as another deployment's output `images`; null for one of its own."
  type        = string
  default     = null

  validation {
    condition     = var.registry == null || can(regex("^[a-z0-9-]+-docker\\.pkg\\.dev/[^/]+/[^/]+$", var.registry))
    error_message = "registry is a path such as us-central1-docker.pkg.dev/my-project/accrue."
  }
}

variable "region" {
  description = "Region of everything: services, images, messages. Keep it beside the database: each call to a distant one adds its latency."
  type        = string
  default     = "us-central1"

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "region is a single region, such as us-central1."
  }
}

variable "database_location" {
  description = "Location of the Firestore database; it cannot be changed later. The region by default; a multi-region (nam5, eur3) survives the loss of a region and costs twice."
  type        = string
  default     = null
}

# The settings of the programs, with their own defaults.

variable "settings" {
  description = "Settings that the services read from their environment. Each service's Config says what they mean."
  type = object({
    log_level           = optional(string, "info")      # above info, the metric accrue_increments has no lines to sum
    partitions          = optional(number, 16)          # ingest: messages per publish, and checkpoints of about 20,000 tags each
    tags                = optional(list(string), [])    # ingest: the tags that are taken, with * for any characters; empty means any
    new_tags_per_minute = optional(number, 0)           # ingest: tags that an instance has not seen, a minute; 0 means any number
    pending_bytes       = optional(number, 67108864)    # ingest: bytes waiting to be published; beyond it, 503
    window              = optional(string, "1s")        # aggregator: one write per tag and window
    tag_documents       = optional(string, "window")    # aggregator: how often documents of tags are written: window, off, or 30s
    commit_documents    = optional(number, 1000)        # aggregator: documents of one Commit
    commits             = optional(number, 256)         # aggregator: Commits in progress at once
    buffer_bytes        = optional(number, 134217728)   # aggregator: messages in memory
    idempotency_horizon = optional(string, "24h")       # aggregator: how long an idempotency key is remembered
    idempotency_keys    = optional(number, 5000000)     # aggregator: keys in memory, 40 to 80 bytes each
    refresh             = optional(string, "500ms")     # query: time between two reads of the checkpoints
    metrics_tags        = optional(number, 1000)        # query: tags at /metrics/totals at most
    recognition_tiers   = optional(list(number), [3])   # query: numbers of contributions that are recognized
    collection_prefix   = optional(string, "")          # aggregator, query: before the names of collections, in a shared database
    hide                = optional(list(string), [])    # all: metrics, contributors, or both: not served to other machines
    cors_origins        = optional(list(string), ["*"]) # all: origins whose pages may call the services
  })
  default = {}

  validation {
    condition     = contains(["debug", "info", "warn", "error"], var.settings.log_level)
    error_message = "log_level is debug, info, warn or error."
  }
  validation {
    condition     = var.settings.partitions >= 1 && var.settings.partitions <= 4096
    error_message = "partitions is 1 to 4096. Raise it at any time; never lower it while tags are near a checkpoint's limit."
  }
  validation {
    condition     = can(regex("^([A-Za-z][A-Za-z0-9_]{0,62})?$", var.settings.collection_prefix))
    error_message = "collection_prefix is empty, or up to 63 letters, digits and underscores with a letter first."
  }
  validation {
    condition     = length(setsubtract(var.settings.hide, ["metrics", "contributors"])) == 0
    error_message = "hide is a list of metrics and contributors."
  }
  validation {
    condition     = var.settings.commits >= 1 && var.settings.commits <= 10000
    error_message = "commits is 1 to 10000."
  }
  validation {
    condition     = var.settings.commit_documents >= 1 && var.settings.commit_documents <= 5000
    error_message = "commit_documents is 1 to 5000."
  }
  validation {
    condition     = var.settings.pending_bytes >= 8388608
    error_message = "pending_bytes is 8388608 (8 MiB) or more."
  }
  validation {
    condition     = var.settings.buffer_bytes >= 1048576
    error_message = "buffer_bytes is 1048576 (1 MiB) or more."
  }
  validation {
    condition     = var.settings.idempotency_keys >= 1000
    error_message = "idempotency_keys is 1000 or more."
  }
  validation {
    condition     = var.settings.new_tags_per_minute >= 0 && var.settings.new_tags_per_minute <= 1000000
    error_message = "new_tags_per_minute is 0 to 1000000."
  }
  validation {
    condition     = length(var.settings.tags) <= 10000 && alltrue([for t in var.settings.tags : can(regex("^[a-z_*]+$", t))])
    error_message = "tags are up to 10,000 names of lower-case letters and underscores, with * for any characters."
  }
  validation {
    condition = can(regex("^[1-9][0-9]*[mh]$", var.settings.idempotency_horizon)) && try(
      tonumber(trimsuffix(var.settings.idempotency_horizon, "m")) <= 48960,
      tonumber(trimsuffix(var.settings.idempotency_horizon, "h")) <= 816,
      false,
    )
    error_message = "idempotency_horizon is a whole number of m or h, 1m to 816h."
  }
  validation {
    condition = contains(["window", "off"], var.settings.tag_documents) || can(regex("^[1-9][0-9]*[smh]$", var.settings.tag_documents)) && try(
      tonumber(trimsuffix(var.settings.tag_documents, "s")) <= 86400,
      tonumber(trimsuffix(var.settings.tag_documents, "m")) <= 1440,
      tonumber(trimsuffix(var.settings.tag_documents, "h")) <= 24,
      false,
    )
    error_message = "tag_documents is window, off, or a whole number of s, m or h, 1s to 24h."
  }
  validation {
    condition = can(regex("^[0-9]+(ms|s)$", var.settings.window)) && try(
      tonumber(trimsuffix(var.settings.window, "ms")) >= 50 && tonumber(trimsuffix(var.settings.window, "ms")) <= 20000,
      tonumber(trimsuffix(var.settings.window, "s")) >= 1 && tonumber(trimsuffix(var.settings.window, "s")) <= 20,
      false,
    )
    error_message = "window is a whole number of ms or s, 50ms to 20s."
  }
  validation {
    condition = can(regex("^[0-9]+(ms|s)$", var.settings.refresh)) && try(
      tonumber(trimsuffix(var.settings.refresh, "ms")) >= 10 && tonumber(trimsuffix(var.settings.refresh, "ms")) <= 60000,
      tonumber(trimsuffix(var.settings.refresh, "s")) >= 1 && tonumber(trimsuffix(var.settings.refresh, "s")) <= 60,
      false,
    )
    error_message = "refresh is a whole number of ms or s, 10ms to 60s."
  }
  validation {
    condition     = var.settings.metrics_tags >= 1 && var.settings.metrics_tags <= 100000 && floor(var.settings.metrics_tags) == var.settings.metrics_tags
    error_message = "metrics_tags is a whole number from 1 to 100000."
  }
  validation {
    condition = (
      length(var.settings.recognition_tiers) >= 1 && length(var.settings.recognition_tiers) <= 20 &&
      alltrue([for i, t in var.settings.recognition_tiers : t >= 1 && floor(t) == t && (i == 0 || t > var.settings.recognition_tiers[max(i - 1, 0)])])
    )
    error_message = "recognition_tiers are 1 to 20 whole numbers, positive and rising."
  }
  validation {
    condition = (
      join(",", var.settings.cors_origins) == "*" ||
      length(var.settings.cors_origins) >= 1 && length(var.settings.cors_origins) <= 100 &&
      alltrue([for o in var.settings.cors_origins : can(regex("^https?://[^/*,@?# ]+$", o))])
    )
    error_message = "cors_origins is [\"*\"], or 1 to 100 origins such as https://example.com, without a path."
  }
}

# The size of each service.

variable "ingest" {
  description = "Size of ingest. cpu_idle bills by requests: right for bursts. From about ten steady requests per second on, instances (cpu_idle = false) are cheaper: docs/scaling.md has the figures."
  type = object({
    cpu           = optional(string, "1")
    memory        = optional(string, "512Mi")
    min_instances = optional(number, 0)
    max_instances = optional(number, 3)
    concurrency   = optional(number, 500)
    cpu_idle      = optional(bool, true)
  })
  default = {}

  validation {
    condition     = var.ingest.min_instances >= 0 && var.ingest.max_instances >= max(1, var.ingest.min_instances)
    error_message = "ingest's instances are 0 <= min <= max, and max is at least 1."
  }
  validation {
    condition     = var.ingest.concurrency >= 1 && var.ingest.concurrency <= 1000
    error_message = "ingest's concurrency is 1 to 1000."
  }
  validation {
    condition     = try(tonumber(regex("^([0-9]+)Mi$", var.ingest.memory)[0]), tonumber(regex("^([0-9]+)Gi$", var.ingest.memory)[0]) * 1024, 0) * 1048576 >= 4 * var.settings.pending_bytes
    error_message = "ingest's memory is a number of Mi or Gi, and at least four times settings.pending_bytes."
  }
}

variable "query" {
  description = "Size of query. Its CPU is always on, since it refreshes its view and recognizes between requests: so at least one instance."
  type = object({
    cpu           = optional(string, "1")
    memory        = optional(string, "512Mi")
    min_instances = optional(number, 1)
    max_instances = optional(number, 3)
    concurrency   = optional(number, 1000)
  })
  default = {}

  validation {
    condition     = var.query.min_instances >= 1 && var.query.max_instances >= var.query.min_instances
    error_message = "query's instances are 1 <= min <= max: recognition needs a running instance."
  }
  validation {
    condition     = var.query.concurrency >= 1 && var.query.concurrency <= 1000
    error_message = "query's concurrency is 1 to 1000. Each open stream is one request."
  }
}

variable "aggregator" {
  description = "Size of the aggregator. Any number of instances counts exactly once; one is enough for a very large stream. 0 stops the counting, and Pub/Sub keeps the messages."
  type = object({
    cpu       = optional(string, "1")
    memory    = optional(string, "1Gi")
    instances = optional(number, 1)   # of each pool
    shards    = optional(number, 1)   # pools, each with a subscription of its own
    unsharded = optional(bool, false) # while shards are introduced or given up: the plain subscription and its pool, too
  })
  default = {}

  validation {
    condition     = var.aggregator.instances >= 0
    error_message = "aggregator's instances are 0 or more."
  }
  validation {
    condition     = contains([1, 2, 8, 16, 32], var.aggregator.shards) && (var.aggregator.shards == 1 || var.mode == "services")
    error_message = "aggregator's shards are 1, 2, 8, 16 or 32, whose filters fit into 256 bytes, and 1 in mode single."
  }
  validation {
    condition     = try(tonumber(regex("^([0-9]+)Mi$", var.aggregator.memory)[0]), tonumber(regex("^([0-9]+)Gi$", var.aggregator.memory)[0]) * 1024, 0) * 1048576 >= 4 * var.settings.buffer_bytes + 80 * var.settings.idempotency_keys
    error_message = "aggregator's memory is a number of Mi or Gi, and at least four times settings.buffer_bytes and 80 bytes for each of settings.idempotency_keys."
  }
}

variable "readiness_probes" {
  description = "Whether Cloud Run sends no traffic to instances that are not ready. A preview feature of Cloud Run, hence off."
  type        = bool
  default     = false
}

# Access.

variable "invokers" {
  description = "Who may call each service. Public by default; if your organization forbids allUsers, name your members."
  type = object({
    ingest = optional(set(string), ["allUsers"])
    query  = optional(set(string), ["allUsers"])
  })
  default = {}

  validation {
    condition = alltrue([
      for m in setunion(var.invokers.ingest, var.invokers.query) :
      can(regex("^(allUsers|allAuthenticatedUsers|(user|group|serviceAccount|domain|principal|principalSet):.+)$", m))
    ])
    error_message = "invokers are IAM members: allUsers, or user:, group:, serviceAccount:, domain:, principal: or principalSet: and a name."
  }
}

variable "ingress" {
  description = "Where requests may come from: INGRESS_TRAFFIC_ALL, INGRESS_TRAFFIC_INTERNAL_ONLY or INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER. With load_balancer it is the last."
  type        = string
  default     = "INGRESS_TRAFFIC_ALL"

  validation {
    condition     = contains(["INGRESS_TRAFFIC_ALL", "INGRESS_TRAFFIC_INTERNAL_ONLY", "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER"], var.ingress)
    error_message = "ingress is one of Cloud Run's three values."
  }
}

variable "default_urls" {
  description = "Whether the services have addresses under run.app. With load_balancer they have none."
  type        = bool
  default     = true
}

variable "load_balancer" {
  description = "A load balancer with a certificate for a domain, which takes so many requests a minute from one address; null for none. About $18 a month, and Cloud Armor's $6."
  type = object({
    domain              = string
    requests_per_minute = optional(number, 600)
  })
  default = null

  validation {
    condition     = var.load_balancer == null || can(regex("^([a-z0-9-]+\\.)+[a-z]{2,}$", var.load_balancer.domain))
    error_message = "load_balancer.domain is a domain's name, such as counts.example.com."
  }
  validation {
    condition     = var.load_balancer == null || try(var.load_balancer.requests_per_minute >= 1 && var.load_balancer.requests_per_minute <= 1000000, false)
    error_message = "load_balancer.requests_per_minute is 1 to 1000000."
  }
}

variable "budget" {
  description = "A budget for the project: the id of the billing account, and an amount a month in its currency. E-mails go to its administrators and to the channels for tickets at 50, 90 and 100 %. null for none."
  type = object({
    billing_account = string
    amount          = number
  })
  default = null

  validation {
    condition     = var.budget == null || can(regex("^[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}$", var.budget.billing_account))
    error_message = "budget.billing_account is an id such as 0X0X0X-0X0X0X-0X0X0X, in hexadecimal digits."
  }
  validation {
    condition     = var.budget == null || try(var.budget.amount >= 1 && floor(var.budget.amount) == var.budget.amount, false)
    error_message = "budget.amount is a whole number, 1 or more."
  }
}

variable "canary" {
  description = "Revisions of ingest and query that keep the traffic while the latest gets a percentage: {ingest = {stable = \"ingest-00012-abc\", percent = 10}}. null when all goes to the latest."
  type = object({
    ingest = optional(object({ stable = string, percent = number }))
    query  = optional(object({ stable = string, percent = number }))
  })
  default = {}

  validation {
    condition     = alltrue([for c in values(var.canary) : c == null || try(c.percent >= 0 && c.percent <= 99 && length(c.stable) > 0, false)])
    error_message = "canary's percent is 0 to 99, beside the name of a revision."
  }
}

# Safety and retention.

variable "backups" {
  description = "How long daily and weekly backups of the database are kept, up to 8467200s (14 weeks); null for none. Each costs storage."
  type = object({
    daily  = optional(string)
    weekly = optional(string)
  })
  default = {}

  validation {
    condition     = alltrue([for r in values(var.backups) : r == null || try(tonumber(trimsuffix(r, "s")) >= 86400 && tonumber(trimsuffix(r, "s")) <= 8467200, false)])
    error_message = "backups are kept for 86400s to 8467200s."
  }
}

variable "database_protected" {
  description = "Whether the database refuses to be deleted. Set it to false, and apply, before terraform destroy."
  type        = bool
  default     = true
}

variable "database_recovery" {
  description = "Whether Firestore keeps seven days of versions, to read or restore any minute of them. It costs storage."
  type        = bool
  default     = false
}

variable "message_retention" {
  description = "How long the increments topic keeps all messages, counted or not, so that a subscription can seek back: 600s to 2678400s; null for not at all. It costs storage."
  type        = string
  default     = null

  validation {
    condition     = var.message_retention == null || try(tonumber(trimsuffix(var.message_retention, "s")) >= 600 && tonumber(trimsuffix(var.message_retention, "s")) <= 2678400, false)
    error_message = "message_retention is null, or 600s to 2678400s."
  }
}

# Optional parts, off by default.

variable "message_schema" {
  description = "Path of the protobuf definition of a message, ../pkg/message/batch.proto; null for no schema. With a schema Pub/Sub refuses to publish anything else."
  type        = string
  default     = null
}

variable "archive" {
  description = "Whether a BigQuery table keeps a copy of every message. Needs message_schema, which gives the table its columns."
  type        = bool
  default     = false

  validation {
    condition     = !var.archive || var.message_schema != null
    error_message = "archive needs message_schema."
  }
}

variable "firestore_rules" {
  description = "Path of the security rules for Firebase clients, ../deployments/firestore.rules, which lets everyone read totals; null for none: Firestore then refuses all clients. Reads are billed: docs/firebase.md."
  type        = string
  default     = null
}

variable "recognitions_endpoint" {
  description = "HTTPS address that recognitions are pushed to, each as a CloudEvent over HTTP; null for none: consumers then create their own subscriptions."
  type        = string
  default     = null

  validation {
    condition     = var.recognitions_endpoint == null || can(regex("^https://", var.recognitions_endpoint))
    error_message = "recognitions_endpoint is an https:// address."
  }
}

variable "recognition_webhooks" {
  description = "Receivers that query posts recognitions to, signed (docs/webhooks.md): their addresses by name, and the id of the secret in Secret Manager that has the secrets of all, in the form of RECOGNITION_WEBHOOK_SECRETS. null for none."
  type = object({
    receivers = map(string)
    secret    = string
    version   = optional(string, "latest") # a number makes a change of the secret a deployment
  })
  default = null

  validation {
    condition = var.recognition_webhooks == null || alltrue([
      for name, address in try(var.recognition_webhooks.receivers, {}) : can(regex("^[a-z]([a-z0-9-]{0,28}[a-z0-9])?$", name)) && can(regex("^https://[^,#]+$", address))
    ])
    error_message = "The receivers of recognition_webhooks are https:// addresses, without a comma, by names of letters, digits and hyphens."
  }
}

variable "traces" {
  description = "The OTLP receiver of spans: its address, the protocol (http/protobuf or grpc), and the share of traces that is sampled. null for none: a trace is then found in the logs only, if its caller asked for sampling."
  type = object({
    endpoint = string
    protocol = optional(string, "http/protobuf")
    ratio    = optional(number, 0.01)
  })
  default = null

  validation {
    condition     = var.traces == null || can(regex("^https?://[^/]+", var.traces.endpoint))
    error_message = "traces.endpoint is an address such as http://collector.internal:4318."
  }
  validation {
    condition     = var.traces == null || try(contains(["http/protobuf", "grpc"], var.traces.protocol), false)
    error_message = "traces.protocol is http/protobuf or grpc."
  }
  validation {
    condition     = var.traces == null || try(var.traces.ratio >= 0 && var.traces.ratio <= 1, false)
    error_message = "traces.ratio is 0 to 1."
  }
}

variable "alerts" {
  description = "Whether to create the alert policies."
  type        = bool
  default     = true
}

variable "alert_emails" {
  description = "E-mail addresses that alerts go to. Without any, alerts are shown in the console only."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for a in var.alert_emails : can(regex("^[^@ ]+@[^@ ]+$", a))])
    error_message = "alert_emails are e-mail addresses."
  }
}

variable "notification_channels" {
  description = "Channels of Cloud Monitoring by their full names: `page` for what must be looked at now (CRITICAL), `ticket` for the rest. alert_emails get both."
  type = object({
    page   = optional(set(string), [])
    ticket = optional(set(string), [])
  })
  default = {}

  validation {
    condition     = alltrue([for c in setunion(var.notification_channels.page, var.notification_channels.ticket) : can(regex("^projects/[^/]+/notificationChannels/[^/]+$", c))])
    error_message = "notification_channels are names such as projects/my-project/notificationChannels/123."
  }
}

variable "uptime_checks" {
  description = "Whether Google asks ingest and query every five minutes from several places, with an alert: some cents a month. For services that anybody can call, since it has no credentials."
  type        = bool
  default     = false

  validation {
    condition     = !var.uptime_checks || var.mode == "services"
    error_message = "uptime_checks need mode services: they would wake one that sleeps."
  }
  validation {
    condition = !var.uptime_checks || (
      contains(var.invokers.ingest, "allUsers") && contains(var.invokers.query, "allUsers") &&
      (var.load_balancer != null || var.ingress == "INGRESS_TRAFFIC_ALL" && var.default_urls)
    )
    error_message = "uptime_checks need allUsers among the invokers, and an address that is open to all."
  }
}

variable "slos" {
  description = "The shares that are promised over 28 days: of ingest's requests without a 5xx, and of minutes in which no message waits for ten seconds. null for no SLOs."
  type = object({
    availability = optional(number, 0.999)
    freshness    = optional(number, 0.99)
  })
  default = null

  validation {
    condition     = var.slos == null || try(alltrue([for goal in values(var.slos) : goal >= 0.5 && goal < 1]), false)
    error_message = "slos are shares from 0.5 to below 1."
  }
  validation {
    condition     = var.slos == null || var.mode == "services"
    error_message = "slos need mode services: what sleeps is late."
  }
}

variable "collector" {
  description = "The image of an OpenTelemetry Collector that runs beside each container and brings the metrics of docs/metrics.md to Cloud Monitoring; null for none. It costs half a vCPU for each instance."
  type        = object({ image = optional(string, "us-docker.pkg.dev/cloud-ops-agents-artifacts/google-cloud-opentelemetry-collector/otelcol-google:0.156.0") })
  default     = null

  validation {
    condition     = var.collector == null || try(can(regex("(:[^:@/]+|@sha256:[0-9a-f]{64})$", var.collector.image)) && !endswith(var.collector.image, ":latest"), false)
    error_message = "collector.image has a tag that does not move, or a digest."
  }
  validation {
    condition     = var.collector == null || var.mode == "services"
    error_message = "collector needs mode services: one that sleeps brings nothing."
  }
}

variable "playbooks" {
  description = "Address of the folder with the playbooks, for the links in alerts."
  type        = string
  default     = "https://github.com/accrue/accrue/blob/main/docs/playbooks"
}

variable "request_logs" {
  description = "Whether to store Cloud Run's own line per request. At high rates they cost more than the service. One in a hundred failures is stored either way."
  type        = bool
  default     = false
}

variable "publish_logs" {
  description = "Whether to store ingest's `published` lines, at most four per second and instance. The metric sums them either way."
  type        = bool
  default     = true
}
