package contract

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	accrue "github.com/accrue/accrue/clients/go"
	"github.com/accrue/accrue/pkg/increment"
)

// The Go client has its own bounds, since it is a module without dependencies on the services.
func TestGoClientHasTheBoundsOfTheServices(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../ingest/internal/api/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	document, err := openapi3.NewLoader().LoadFromData(text)
	if err != nil {
		t.Fatal(err)
	}
	batch := document.Paths.Value("/increments/batch").Post.RequestBody.Value.Content["application/json"].Schema.Value.Properties["increments"].Value
	item := batch.Items.Value.Properties
	for _, bound := range []struct {
		name                        string
		client, service, documented int
	}{
		{"MinNameLength", accrue.MinNameLength, increment.MinNameLength, int(item["name"].Value.MinLength)},
		{"MaxNameLength", accrue.MaxNameLength, increment.MaxNameLength, int(*item["name"].Value.MaxLength)},
		{"MinValue", accrue.MinValue, increment.MinValue, int(*item["value"].Value.Min)},
		{"MaxValue", accrue.MaxValue, increment.MaxValue, int(*item["value"].Value.Max)},
		{"MaxContributorLength", accrue.MaxContributorLength, increment.MaxContributorLength, int(*item["contributor"].Value.MaxLength)},
		{"MaxIDLength", accrue.MaxIDLength, increment.MaxKeyLength, int(*item["id"].Value.MaxLength)},
		{"MaxBatch", accrue.MaxBatch, increment.MaxBatch, int(*batch.MaxItems)},
	} {
		if bound.client != bound.service || bound.client != bound.documented {
			t.Errorf("%s is %d in the client, %d in package increment, %d in the document", bound.name, bound.client, bound.service, bound.documented)
		}
	}
}

// Clients and services must agree on each name, value, contributor and key, not only on the bounds.
func FuzzGoClientAcceptsWhatTheServicesAccept(f *testing.F) {
	f.Add("foo", int64(4), "ada", "order-1")
	f.Add("", int64(0), "ada", "")
	f.Add("foo", int64(10), "a\u0085b", "a b")
	client, err := accrue.New(accrue.Config{URL: "http://127.0.0.1:1", Queue: 1_000_000})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = client.Close(canceled()) })
	f.Fuzz(func(t *testing.T, name string, value int64, contributor, id string) {
		want := (increment.ValidateName(name) == nil && increment.ValidateValue(value) == nil || name == "" && value == 0 && contributor != "") &&
			(contributor == "" || increment.ValidateContributor(contributor) == nil) && (id == "" || increment.ValidateKey(id) == nil)
		err := client.Add(t.Context(), accrue.Entry{Name: name, Value: value, Contributor: contributor, ID: id})
		if got := err == nil; got != want {
			t.Errorf("Add(%q, %d, %q, %q) = %v, want accepted: %v", name, value, contributor, id, err, want)
		}
	})
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// So does the TypeScript client.
func TestTypeScriptClientHasTheBoundsOfTheServices(t *testing.T) {
	t.Parallel()
	for file, bounds := range map[string][]string{
		"entry.ts": {
			fmt.Sprintf("/^[a-z_]{%d,%d}$/", increment.MinNameLength, increment.MaxNameLength),
			fmt.Sprintf("value! >= %d && value! <= %d,", increment.MinValue, increment.MaxValue),
			fmt.Sprintf("maxContributor = %d\n", increment.MaxContributorLength),
			fmt.Sprintf("/^[!-~]{%d,%d}$/", increment.MinKeyLength, increment.MaxKeyLength),
		},
		"client.ts": {fmt.Sprintf("check('batch', batch, %d, %d)", increment.MinBatch, increment.MaxBatch)},
	} {
		text, err := os.ReadFile("../../clients/typescript/src/" + file)
		if err != nil {
			t.Fatal(err)
		}
		for _, bound := range bounds {
			if !strings.Contains(string(text), bound) {
				t.Errorf("%s lacks %q", file, bound)
			}
		}
	}
}
