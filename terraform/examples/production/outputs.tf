output "accrue" {
  description = "Addresses, and what else the pages of docs/ use."
  value       = module.accrue
}
