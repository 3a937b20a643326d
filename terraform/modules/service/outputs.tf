output "url" {
  description = "URL; null for a worker."
  value       = one(google_cloud_run_v2_service.this[*].uri)
}

output "revision" {
  description = "The latest revision that is ready; null for a worker."
  value       = one(google_cloud_run_v2_service.this[*].latest_ready_revision)
}

output "collector" {
  description = "The collector's container, for the tests; null without one."
  value = try(one(concat(
    [for s in google_cloud_run_v2_service.this : s.template[0].containers[1]],
    [for w in google_cloud_run_v2_worker_pool.this : w.template[0].containers[1]],
  )), null)
}

output "traffic" {
  description = "The shares of traffic by revision, for the tests."
  value       = flatten(google_cloud_run_v2_service.this[*].traffic)
}

output "reach" {
  description = "Where requests may come from, and whether there is an address under run.app, for the tests."
  value       = one([for s in google_cloud_run_v2_service.this : { ingress = s.ingress, default_url = !s.default_uri_disabled }])
}

output "container" {
  description = "The container's configuration, for the tests."
  value = one(concat(
    google_cloud_run_v2_service.this[*].template[0].containers[0],
    google_cloud_run_v2_worker_pool.this[*].template[0].containers[0],
  ))
}

output "account" {
  description = "The account that it runs as, for the tests."
  value = one(concat(
    google_cloud_run_v2_service.this[*].template[0].service_account,
    google_cloud_run_v2_worker_pool.this[*].template[0].service_account,
  ))
}

output "instances" {
  description = "Minimum and maximum number of instances, for the tests."
  value = one(concat(
    [for s in google_cloud_run_v2_service.this : {
      min = s.template[0].scaling[0].min_instance_count, max = s.template[0].scaling[0].max_instance_count
    }],
    [for w in google_cloud_run_v2_worker_pool.this : {
      min = w.scaling[0].manual_instance_count, max = w.scaling[0].manual_instance_count
    }],
  ))
}

output "concurrency" {
  description = "Maximum concurrent requests of one instance, for the tests."
  value       = one(google_cloud_run_v2_service.this[*].template[0].max_instance_request_concurrency)
}

output "timeout" {
  description = "Maximum duration of a request, for the tests."
  value       = one(google_cloud_run_v2_service.this[*].template[0].timeout)
}

output "invokers" {
  description = "Roles and members that may call it, for the tests."
  value       = [for i in google_cloud_run_v2_service_iam_member.invoker : "${i.role} ${i.member}"]
}

output "worker" {
  description = "Whether it is a worker pool and has no URL, for the tests."
  value       = length(google_cloud_run_v2_worker_pool.this) == 1 && length(google_cloud_run_v2_service.this) == 0
}
