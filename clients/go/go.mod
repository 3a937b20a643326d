module github.com/accrue/accrue/clients/go

go 1.26.0

require (
	github.com/cenkalti/backoff/v5 v5.0.3
	go.uber.org/goleak v1.3.0
	pgregory.net/rapid v1.3.0
)
