# The two commands that a newcomer needs are `make run` and `make test`; `make help` lists all.
SHELL := /bin/bash -o pipefail
MODULES := . clients/go tools e2e

# Tools that are built from source, at fixed versions, so that Go alone is needed.
GOLANGCI := go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
BUF := go run github.com/bufbuild/buf/cmd/buf@v1.75.0

.DEFAULT_GOAL := help

.PHONY: help
help: ## lists the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

DATA ?= .accrue
.PHONY: run
run: ## runs the whole of Accrue in one process; keeps its data in DATA (.accrue), or with DATA= nowhere; needs Go alone
	@go run ./tools/accrue run --data "$(DATA)"

.PHONY: test
test: ## tests everything: what needs the emulators too, where they are found (never skipped if CI=true)
	@sdk=$$(gcloud info --format='value(installation.sdk_root)' 2>/dev/null); \
	if ! ls "$$sdk"/platform/{pubsub,cloud-firestore}-emulator >/dev/null 2>&1 || ! command -v java >/dev/null; then \
		echo "The Cloud SDK's emulators, or Java, are not here: the end-to-end tests and the tests of the Pub/Sub and Firestore adapters are left out."; fi
	@for m in $(MODULES); do echo "== $$m"; (cd $$m && go test -race -shuffle=on $(if $(CI),-count=1) ./...) || exit 1; done

.PHONY: test-short
test-short: ## tests what needs no emulators, in a few seconds
	@for m in $(filter-out e2e,$(MODULES)); do (cd $$m && go test -short ./...) || exit 1; done

.PHONY: bench
bench: ## runs the benchmarks of the parts
	@for m in $(MODULES); do (cd $$m && go test -run '^$$' -bench . -benchmem ./...) || exit 1; done

.PHONY: emulators
emulators: ## starts the Cloud SDK's Pub/Sub and Firestore emulators until Ctrl-C
	@go run ./tools/accrue emulators

.PHONY: build
build: ## builds the three services and the tools into bin/, as the Dockerfile does
	@mkdir -p bin
	CGO_ENABLED=0 go build -trimpath -o bin/ ./ingest/cmd/ingest ./aggregator/cmd/aggregator ./query/cmd/query ./tools/...

.PHONY: run-emulators
run-emulators: build ## runs the three real binaries as three processes against `make emulators`
	@deployments/run-emulators

.PHONY: words
words: ## counts every word of Go's own sources, 7 million, and compares with sort | uniq -c
	@cd e2e && WORDS="$$(go env GOROOT)/src" go test -count=1 -timeout 30m -v -run TestEveryWordOfGoIsCounted .

.PHONY: fuzz
FUZZTIME ?= 30s
fuzz: ## fuzzes every decoder and rule, FUZZTIME each: a time, or a count such as 20000x
	@for file in $$(grep -rlE '^func Fuzz' --include='*_test.go' .); do \
		for f in $$(grep -ohE '^func Fuzz[A-Za-z]+' $$file | sed 's/func //'); do \
			echo "== $$file $$f"; (cd $$(dirname $$file) && go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) .) || exit 1; done; done

.PHONY: measure
measure: build ## measures the whole system on this machine: docs/measured.md says what was found
	@bin/accrue bench

.PHONY: generate
generate: ## writes generated code anew
	$(BUF) generate
	go run ./tools/openapi

.PHONY: lint
lint: ## checks format, vet, the lint rules and the arrows between packages
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "not gofmt-ed: $$unformatted"; exit 1; fi
	$(BUF) lint
	@for m in $(MODULES); do echo "== $$m"; (cd $$m && go vet ./... && $(GOLANGCI) run) || exit 1; done

.PHONY: terraform-check
terraform-check: ## formats, validates and tests terraform/ with plain Terraform
	terraform -chdir=terraform fmt -check -recursive
	terraform -chdir=terraform init -backend=false -input=false
	terraform -chdir=terraform validate
	terraform -chdir=terraform test

.PHONY: tidy
tidy: ## checks that every go.mod is tidy and that each module builds by itself
	@for m in $(MODULES); do (cd $$m && GOWORK=off go mod tidy -diff && GOWORK=off go build ./...) || exit 1; done
