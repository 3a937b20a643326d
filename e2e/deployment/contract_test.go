// Package deployment compares the deployment with the programs: what Terraform, the compose file, the Dockerfile and the
// playbooks say about settings, routes, topics, collections, metrics and log messages must match the services.
package deployment

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/accrue/accrue/aggregator"
	"github.com/accrue/accrue/ingest"
	base "github.com/accrue/accrue/pkg/service"
	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/query"
)

var update = flag.Bool("update", false, "update terraform/tests/contract.json")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// root is the top of the repository.
const root = "../.."

// contract is what a deployment must know about the services. The Terraform tests compare their plan with it. They fail for a
// variable that a service does not read, and for one that it reads but does not get.
type contract struct {
	Services map[string]service `json:"services"`
	// Collections are the Firestore collections that the services write.
	Collections []string `json:"collections"`
	// LeaseSeconds is the ack deadline that the aggregator expects of its subscription.
	LeaseSeconds int `json:"lease_seconds"`
}

type service struct {
	// Environment is every variable that the service reads in a deployment, with its default.
	Environment map[string]string `json:"environment"`
	Health      health            `json:"health"`
}

type health struct {
	Live  string `json:"live"`
	Ready string `json:"ready"`
}

// variable is one field of a service's Config.
type variable struct {
	fallback string
	required bool
}

// emulator reports whether a variable is the address of an emulator, which deployments do not set.
func emulator(name string) bool { return strings.HasSuffix(name, "_EMULATOR_HOST") }

// configs are the settings of each service.
func configs() map[string]any {
	return map[string]any{"ingest": ingest.Config{}, "aggregator": aggregator.Config{}, "query": query.Config{}}
}

// variables returns the variables that a Config reads, by name, from the tags of its fields.
func variables(t *testing.T, config any) map[string]variable {
	t.Helper()
	all := make(map[string]variable)
	for _, field := range reflect.VisibleFields(reflect.TypeOf(config)) {
		if field.Anonymous {
			continue
		}
		name, options, _ := strings.Cut(field.Tag.Get("env"), ",")
		if name == "" {
			t.Errorf("field %s has no environment variable", field.Name)
			continue
		}
		if _, twice := all[name]; twice {
			t.Errorf("%s is read by two fields", name)
		}
		all[name] = variable{fallback: field.Tag.Get("envDefault"), required: slices.Contains(strings.Split(options, ","), "required")}
	}
	return all
}

func current(t *testing.T) contract {
	t.Helper()
	c := contract{
		Services:     make(map[string]service),
		Collections:  []string{store.Contributors, store.Partitions, store.Recognitions, store.Rejected, store.Tags},
		LeaseSeconds: int(aggregator.AckDeadline.Seconds()),
	}
	for name, config := range configs() {
		environment := make(map[string]string)
		for variable, v := range variables(t, config) {
			if !emulator(variable) && (name != "ingest" || variable != "INCREMENTS_SUBSCRIPTION") { // ingest creates it at an emulator only
				environment[variable] = v.fallback
			}
		}
		c.Services[name] = service{Environment: environment, Health: health{Live: base.LivePath, Ready: base.ReadyPath}}
	}
	return c
}

func TestContractEqualsTheServices(t *testing.T) {
	t.Parallel()
	var want bytes.Buffer
	encoder := json.NewEncoder(&want)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(current(t)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(root, "terraform", "tests", "contract.json")
	if *update {
		if err := os.WriteFile(path, want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Errorf("%s differs from the services. Update it with\n"+
			"\tcd e2e && go test ./deployment -update\nand change Terraform accordingly: its tests show where.\ngot:\n%s\nwant:\n%s",
			path, got, want.Bytes())
	}
}
