module github.com/accrue/accrue/clients/go

go 1.26.0

replace github.com/accrue/accrue => ../..

require (
	github.com/accrue/accrue v0.0.0
	github.com/cenkalti/backoff/v5 v5.0.3
	go.uber.org/goleak v1.3.0
	pgregory.net/rapid v1.3.0
)

require github.com/cespare/xxhash/v2 v2.3.0 // indirect
