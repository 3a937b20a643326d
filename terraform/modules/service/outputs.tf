output "url" {
  description = "Where it is called; null for a worker."
  value       = one(google_cloud_run_v2_service.this[*].uri)
}

output "container" {
  description = "The container as Cloud Run is told to run it. The tests look at it."
  value = one(concat(
    google_cloud_run_v2_service.this[*].template[0].containers[0],
    google_cloud_run_v2_worker_pool.this[*].template[0].containers[0],
  ))
}

output "account" {
  description = "The account that it runs as. The tests look at it."
  value = one(concat(
    google_cloud_run_v2_service.this[*].template[0].service_account,
    google_cloud_run_v2_worker_pool.this[*].template[0].service_account,
  ))
}

output "instances" {
  description = "Fewest and most instances. The tests look at it."
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
  description = "Requests that one instance has under way at most. The tests look at it."
  value       = one(google_cloud_run_v2_service.this[*].template[0].max_instance_request_concurrency)
}

output "timeout" {
  description = "The longest that one request may take. The tests look at it."
  value       = one(google_cloud_run_v2_service.this[*].template[0].timeout)
}

output "invokers" {
  description = "Who may call it: role and member. The tests look at it."
  value       = [for i in google_cloud_run_v2_service_iam_member.invoker : "${i.role} ${i.member}"]
}

output "worker" {
  description = "Whether it is a worker pool, which nobody can call. The tests look at it."
  value       = length(google_cloud_run_v2_worker_pool.this) == 1 && length(google_cloud_run_v2_service.this) == 0
}
