module github.com/accrue/accrue/tools

go 1.26.0

replace github.com/accrue/accrue/pkg => ../pkg
