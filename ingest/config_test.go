package ingest_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/accrue/accrue/ingest"
	"github.com/accrue/accrue/pkg/service"
	"github.com/accrue/accrue/pkg/service/servicetest"
)

func TestConfigBindsAndChecksEachVariableOnce(t *testing.T) {
	t.Parallel()
	servicetest.TestConfig[ingest.Config](t)
}

func TestConfigHasDefaults(t *testing.T) {
	t.Parallel()
	var got ingest.Config
	if err := service.Load(map[string]string{"GOOGLE_CLOUD_PROJECT": "test"}, &got); err != nil {
		t.Fatal(err)
	}
	want := ingest.Config{
		Config: service.Config{Project: "test", Port: 8080, LogLevel: "info", CORSOrigins: []string{"*"}},
		Topic:  "increments", Subscription: "increments-aggregator", Partitions: 16, PendingBytes: 64 << 20,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("defaults = %+v, want %+v", got, want)
	}
}

func TestConfigChecksBounds(t *testing.T) {
	t.Parallel()
	for setting, want := range map[string]bool{
		"INCREMENTS_TOPIC=abc":                 true,
		"INCREMENTS_TOPIC=ab":                  false,
		"INCREMENTS_TOPIC=projects/p/topics/t": false,
		"PARTITIONS=1":                         true,
		"PARTITIONS=4096":                      true,
		"PARTITIONS=0":                         false,
		"PARTITIONS=-1":                        false,
		"PARTITIONS=4097":                      false,
		"PARTITIONS=many":                      false,
		"PENDING_BYTES=8388608":                true,
		"PENDING_BYTES=0":                      false,
		"PENDING_BYTES=-1":                     false,
		"PENDING_BYTES=8388607":                false,
	} {
		variable, value, _ := strings.Cut(setting, "=")
		err := service.Load(map[string]string{"GOOGLE_CLOUD_PROJECT": "p", variable: value}, new(ingest.Config))
		if (err == nil) != want || (err != nil && !strings.Contains(err.Error(), variable)) {
			t.Errorf("%s: %v, valid = %v", setting, err, want)
		}
	}
}
