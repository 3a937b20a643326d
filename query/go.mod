module github.com/accrue/accrue/query

go 1.26.0

replace github.com/accrue/accrue/pkg => ../pkg
