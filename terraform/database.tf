# Firestore: the database and its indexes. Every index entry is written with its document, and an index on a value that only
# grows, such as a time, caps its collection at about 500 writes per second. So only what is queried is indexed.

resource "google_firestore_database" "this" {
  name                              = var.database
  location_id                       = coalesce(var.database_location, var.region)
  type                              = "FIRESTORE_NATIVE"
  delete_protection_state           = var.database_protected ? "DELETE_PROTECTION_ENABLED" : "DELETE_PROTECTION_DISABLED"
  point_in_time_recovery_enablement = var.database_recovery ? "POINT_IN_TIME_RECOVERY_ENABLED" : "POINT_IN_TIME_RECOVERY_DISABLED"
  deletion_policy                   = "DELETE" # terraform destroy deletes it, once the protection is off

  depends_on = [google_project_service.this]
}

resource "google_firestore_backup_schedule" "this" {
  for_each = { for name, retention in var.backups : name => retention if retention != null }

  database  = google_firestore_database.this.name
  retention = each.value

  dynamic "daily_recurrence" {
    for_each = each.key == "daily" ? [1] : []
    content {}
  }
  dynamic "weekly_recurrence" {
    for_each = each.key == "weekly" ? [1] : []
    content {
      day = "SUNDAY"
    }
  }
}

locals {
  expiring = ["keys", "folds", "minutes", "hours"] # below partitions: idempotency keys, and the history of totals
}

# Off for every field of every collection.
resource "google_firestore_field" "unindexed" {
  for_each = toset(concat(["audit", "contributors", "layouts", "partitions", "recognitions", "rejected", "tags"], local.expiring))

  database   = google_firestore_database.this.name
  collection = "${var.settings.collection_prefix}${each.value}"
  field      = "*"

  index_config {}

  deletion_policy = "ABANDON" # it goes with the database, and 13 deletions at once fail
}

# On for the single-field queries of pkg/store/firestore: contributors by contributions, in either order; pending
# recognitions; the number of recognitions of a tier. None of these is a time; the index `latest` shows how to index one.
resource "google_firestore_field" "queried" {
  for_each = {
    "contributors/contributions" = ["ASCENDING", "DESCENDING"]
    "recognitions/state"         = ["ASCENDING"]
    "recognitions/tier"          = ["ASCENDING"]
  }

  database   = google_firestore_database.this.name
  collection = "${var.settings.collection_prefix}${split("/", each.key)[0]}"
  field      = split("/", each.key)[1]

  index_config {
    dynamic "indexes" {
      for_each = each.value
      content {
        order       = indexes.value
        query_scope = "COLLECTION"
      }
    }
  }

  deletion_policy = "ABANDON"
}

# Contributors to be recognized: an equality and a range, so that an empty answer costs one read, however many there are.
resource "google_firestore_index" "due" {
  database    = google_firestore_database.this.name
  collection  = "${var.settings.collection_prefix}contributors"
  query_scope = "COLLECTION"

  deletion_policy = "ABANDON"

  fields {
    field_path = "recognized_tier"
    order      = "ASCENDING"
  }
  fields {
    field_path = "contributions"
    order      = "ASCENDING"
  }
}

# The latest recognitions. The shard before the time spreads the writes over the index.
resource "google_firestore_index" "latest" {
  database    = google_firestore_database.this.name
  collection  = "${var.settings.collection_prefix}recognitions"
  query_scope = "COLLECTION"

  deletion_policy = "ABANDON"

  fields {
    field_path = "shard"
    order      = "ASCENDING"
  }
  fields {
    field_path = "recognized_at"
    order      = "DESCENDING"
  }
}

# Those of one tier, likewise.
resource "google_firestore_index" "latest_of_tier" {
  database    = google_firestore_database.this.name
  collection  = "${var.settings.collection_prefix}recognitions"
  query_scope = "COLLECTION"

  deletion_policy = "ABANDON"

  fields {
    field_path = "tier"
    order      = "ASCENDING"
  }
  fields {
    field_path = "shard"
    order      = "ASCENDING"
  }
  fields {
    field_path = "recognized_at"
    order      = "DESCENDING"
  }
}

# The rules for Firebase clients. A ruleset is immutable and is replaced by another; the release names the current one.
resource "google_firebaserules_ruleset" "clients" {
  count = var.firestore_rules == null ? 0 : 1

  source {
    files {
      name    = "firestore.rules"
      content = file(var.firestore_rules)
    }
  }

  lifecycle {
    create_before_destroy = true
  }

  depends_on = [google_project_service.this]
}

resource "google_firebaserules_release" "clients" {
  count = var.firestore_rules == null ? 0 : 1

  name         = local.database == "(default)" ? "cloud.firestore" : "cloud.firestore/${local.database}"
  ruleset_name = "projects/${var.project}/rulesets/${google_firebaserules_ruleset.clients[0].name}"

  depends_on = [google_firestore_database.this]
}

# Documents with an end are deleted by Firestore within about a day after it.
resource "google_firestore_field" "expiring" {
  for_each = toset(local.expiring)

  database   = google_firestore_database.this.name
  collection = "${var.settings.collection_prefix}${each.value}"
  field      = "expire_at"

  index_config {}
  ttl_config {}

  deletion_policy = "ABANDON"
}
