module github.com/accrue/accrue/e2e

go 1.26.0

replace github.com/accrue/accrue/pkg => ../pkg
