# Start with `make run` and `make test`; `make help` lists all targets.
SHELL := /bin/bash -o pipefail
MODULES := . clients/go tools e2e rivals

# Gin without its msgpack codec, which is a sixth of what a first build compiles.
export GOFLAGS := $(strip $(GOFLAGS) -tags=nomsgpack)

# The command accrue, for a first minute that is one: without debugging information a first build takes a tenth less.
ACCRUE ?= go run -gcflags=all=-dwarf=false ./tools/accrue

# Tools that Go builds from source, at fixed versions.
GOLANGCI := go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
BENCHSTAT := go run golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da
BUF := go run github.com/bufbuild/buf/cmd/buf@v1.75.0
GOVULNCHECK := go run golang.org/x/vuln/cmd/govulncheck@v1.1.4

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

DATA ?= .accrue
.PHONY: run
run: ## run all of Accrue in one process; keeps its data in DATA (.accrue), or nowhere if DATA is empty; needs Go alone
	@echo "Building: a minute the first time, seconds afterwards." >&2; trap 'exit 0' INT; \
	$(ACCRUE) run --data "$(DATA)" $(ARGS)

.PHONY: demo
demo: ## post the day of a shop in ten minutes to `make run`, and verify every total: the board is worth a look meanwhile
	@trap 'exit 1' INT; $(ACCRUE) load --shop $(ARGS)

.PHONY: load
load: ## put load on `make run`, and verify every total; ARGS are those of `accrue load`
	@trap 'exit 1' INT; $(ACCRUE) load $(ARGS)

.PHONY: test
test: ## test everything with the race detector; skips and names what needs emulators that are not installed (CI=true fails instead)
	@sdk=$$(gcloud info --format='value(installation.sdk_root)' 2>/dev/null); \
	if ! ls "$$sdk"/platform/{pubsub,cloud-firestore}-emulator >/dev/null 2>&1 || ! command -v java >/dev/null; then \
		echo "Java or the Cloud SDK's emulators are not installed: skipping the end-to-end tests and the tests of the adapters."; fi
	@for m in $(MODULES); do echo "== $$m"; (cd $$m && go test -race -shuffle=on -timeout 40m $(if $(CI),-count=1) ./...) || exit 1; done
	@echo "== aggregator, all of its work without the race detector"; go test -shuffle=on $(if $(CI),-count=1) ./aggregator

.PHONY: test-short
test-short: ## test what takes seconds and needs Go alone
	@for m in $(filter-out e2e,$(MODULES)); do (cd $$m && go test -short ./...) || exit 1; done

.PHONY: benchmarks
benchmarks: ## run the Go benchmarks of all packages
	@for m in $(MODULES); do (cd $$m && go test -run '^$$' -bench . -benchmem ./...) || exit 1; done

.PHONY: emulators
emulators: ## run the Cloud SDK's Pub/Sub and Firestore emulators until Ctrl-C
	@$(ACCRUE) emulators

.PHONY: build
build: ## build the three services and the tools into bin/, as the Dockerfile does
	@mkdir -p bin
	CGO_ENABLED=0 go build -trimpath -o bin/ ./ingest/cmd/ingest ./aggregator/cmd/aggregator ./query/cmd/query ./tools/...

.PHONY: run-emulators
run-emulators: build ## run the three services as three processes against `make emulators`
	@deployments/run-emulators

.PHONY: words
words: ## count the 7 million words of Go's sources, and compare with sort | uniq -c
	@cd e2e && WORDS="$$(go env GOROOT)/src" go test -count=1 -timeout 30m -v -run TestCountsEveryWordOfGo .

.PHONY: kills
kills: ## kill `accrue run` 200 times under load, and compare every total, history and recognition
	@cd tools && ROUNDS=200 go test -count=1 -timeout 30m -v -run Kills ./accrue

.PHONY: fuzz
FUZZTIME ?= 30s
fuzz: ## run every fuzz target for FUZZTIME, a duration or a count such as 20000x
	@for file in $$(grep -rlE '^func Fuzz' --include='*_test.go' .); do \
		for f in $$(grep -ohE '^func Fuzz[A-Za-z]+' $$file | sed 's/func //'); do \
			echo "== $$file $$f"; (cd $$(dirname $$file) && go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) .) || exit 1; done; done

.PHONY: measure
measure: build ## measure the whole system on this machine, and print a table; docs/measured.md has results
	@bin/accrue bench

.PHONY: bench-compare
bench-compare: ## compare benchmarks with the commit BASE (HEAD~1) by benchstat: make bench-compare PKG=./pkg/message BENCH=Decode
	@PKG='$(or $(PKG),./pkg/checkpoint ./pkg/message ./aggregator/internal/... ./ingest/internal/...)' BENCH='$(or $(BENCH),.)' BASE='$(or $(BASE),HEAD~1)' COUNT='$(or $(COUNT),6)' BENCHSTAT='$(BENCHSTAT)' .ci/bench-compare

.PHONY: bench
bench: build ## measure the whole system and the rivals on this machine, and write docs/benchmarks.md; ARGS are those of bin/rivals
	cd rivals && go build -o ../bin/rivals .
	bin/accrue bench --each 2s --json >bin/bench.json
	bin/rivals --system bin/bench.json $(ARGS)

.PHONY: bench-rivals
bench-rivals: build ## the rivals alone: Redis, PostgreSQL, NATS and Firestore on its emulator; root installs what is missing
	cd rivals && go build -o ../bin/rivals . && cd .. && bin/rivals $(ARGS)

.PHONY: generate
generate: ## generate code and OpenAPI documents
	$(BUF) generate
	go run ./tools/openapi

.PHONY: lint
lint: ## check formatting, go vet, the linters and the imports between packages
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "not gofmt-ed: $$unformatted"; exit 1; fi
	$(BUF) lint
	@for m in $(MODULES); do echo "== $$m"; (cd $$m && go vet ./... && $(GOLANGCI) run --allow-parallel-runners) || exit 1; done

.PHONY: model
model: ## explore every state of small worlds with the production code, and check the protocol with Spin
	@MODEL=1 go test -count=1 -v -timeout 30m -run 'TestEveryStateOfSmallWorlds|TestTheExplorer' ./aggregator/internal/partition | grep -vE '^=== |^\s+--- '
	@cd e2e && go test -count=1 -v ./model | grep -vE '^=== '

OPERATE := TestRestoredDatabaseIsExactAfterAReplay|TestUpgradeAndRollbackLoseAndDoubleNothing|TestSettingsChangeUnderLoad|TestShardsAreIntroducedUnderLoad|TestSingleProcessWakesAndCountsWhatWaited
.PHONY: operate
operate: ## try docs/operate.md on the emulators: restore, upgrade and rollback, settings and shards under load, the single process
	@cd e2e && CI=true go test -count=1 -v -timeout 30m -run '^($(OPERATE))$$' . | grep -vE '^=== '

SEEDS ?= 1000
.PHONY: simulate
simulate: ## run SEEDS seeds, from FIRST on, of the three services behind faults with a simulated clock, or one SEED
	@cd tools && GOGC=400 SEEDS=$(SEEDS) FIRST=$(FIRST) SEED=$(SEED) go test -count=1 -v -timeout 5h -run TestSimulation ./simulate | grep -vE '^=== |^ +--- PASS'

RUNS ?= 5
FOR ?= 60s
.PHONY: chaos
chaos: ## make trouble for FOR (60s), RUNS (5) times by other seeds, from SEED on: two of each service as processes on the emulators
	@cd e2e && SEED=$(or $(SEED),$$RANDOM) RUNS=$(RUNS) FOR=$(FOR) go test -count=1 -v -timeout 3h -run 'TestChaos$$' . | grep -vE '^=== '

OVERLOAD ?= 60s
FREEZE ?= |FrozenUnderLoad
.PHONY: overload
overload: ## post three times what Pub/Sub takes for OVERLOAD (60s), hold 10,000 connections, and freeze Firestore for 2 minutes, Pub/Sub for one
	@cd e2e && OVERLOAD=$(OVERLOAD) FIRESTORE_FROZEN=2m PUBSUB_FROZEN=1m go test -count=1 -v -timeout 30m -parallel 1 \
		-run 'TestThreeTimesWhatIsTaken|TestIdleConnectionsAndBombs$(FREEZE)' . | grep -vE '^=== '

.PHONY: compose-test
compose-test: ## test both compose files on a container engine; says so where there is none
	@deployments/compose-test

.PHONY: vulnerabilities
vulnerabilities: ## look for known vulnerabilities in the code that is called; says so where vuln.go.dev cannot be reached
	@if ! curl -fsS -m 20 -o /dev/null https://vuln.go.dev/index/db.json; then \
		echo "NOT CHECKED: the database of vulnerabilities at vuln.go.dev cannot be reached"; exit 0; fi; \
	for m in $(MODULES); do echo "== $$m"; (cd $$m && $(GOVULNCHECK) ./...) || exit 1; done

.PHONY: terraform-check
terraform-check: ## check the format of terraform/, validate and test it; needs Terraform
	terraform -chdir=terraform fmt -check -recursive
	terraform -chdir=terraform init -backend=false -input=false
	terraform -chdir=terraform validate
	terraform -chdir=terraform test

.PHONY: tidy
tidy: ## check that every go.mod is tidy and that each module builds without go.work
	@for m in $(MODULES); do (cd $$m && GOWORK=off go mod tidy -diff && GOWORK=off go build ./...) || exit 1; done
