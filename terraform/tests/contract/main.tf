# What the programs read and serve, for the tests to compare with. `go test ./e2e/deployment` keeps contract.json true.

locals {
  contract = jsondecode(file("${path.module}/../contract.json"))
}

output "services" {
  value = local.contract.services
}

output "collections" {
  value = local.contract.collections
}

output "lease_seconds" {
  value = local.contract.lease_seconds
}
