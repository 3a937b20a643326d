package aggregator_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/accrue/accrue/aggregator"
	"github.com/accrue/accrue/pkg/service"
	"github.com/accrue/accrue/pkg/service/servicetest"
)

func TestConfigBindsAndChecksEachVariableOnce(t *testing.T) {
	t.Parallel()
	servicetest.TestConfig[aggregator.Config](t)
}

func TestConfigHasDefaults(t *testing.T) {
	t.Parallel()
	var got aggregator.Config
	if err := service.Load(map[string]string{"GOOGLE_CLOUD_PROJECT": "p"}, &got); err != nil {
		t.Fatal(err)
	}
	want := aggregator.Config{
		Config:    service.Config{Project: "p", Port: 8080, LogLevel: "info", CORSOrigins: []string{"*"}},
		Firestore: service.Firestore{Database: "(default)"},
		Topic:     "increments", Subscription: "increments-aggregator", DeadLetterTopic: "increments-dead-letter",
		Window: time.Second, CommitDocuments: 1000, Commits: 256, BufferBytes: 128 << 20, Horizon: 24 * time.Hour, Keys: 5_000_000,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("defaults = %+v, want %+v", got, want)
	}
}

func TestConfigChecksBounds(t *testing.T) {
	t.Parallel()
	for setting, want := range map[string]bool{
		"PUBSUB_EMULATOR_HOST=[::1]:8085":        true,
		"PUBSUB_EMULATOR_HOST=localhost":         false,
		"FIRESTORE_EMULATOR_HOST=localhost:8081": true,
		"FIRESTORE_EMULATOR_HOST=localhost":      false,
		"PORT=0":                                 true,
		"PORT=65535":                             true,
		"PORT=-1":                                false,
		"PORT=65536":                             false,
		"LOG_LEVEL=debug":                        true,
		"LOG_LEVEL=loud":                         false,
		"CORS_ORIGINS=https://a.example":         true,
		"CORS_ORIGINS=https://a.example, https://b.example": true,
		"CORS_ORIGINS=example.com":                          false,
		"COLLECTION_PREFIX=accrue_":                         true,
		"COLLECTION_PREFIX=__x":                             false,
		"COLLECTION_PREFIX=a/b":                             false,
		"HIDE=metrics,contributors":                         true,
		"HIDE=docs":                                         false,
		"CORS_ORIGINS=*,https://a.example":                  false,
		"INCREMENTS_SUBSCRIPTION=abc":                       true,
		"INCREMENTS_SUBSCRIPTION=a b":                       false,
		"DEAD_LETTER_TOPIC=abc":                             true,
		"DEAD_LETTER_TOPIC=a/b":                             false,
		"WINDOW=50ms":                                       true,
		"WINDOW=20s":                                        true,
		"WINDOW=49ms":                                       false,
		"WINDOW=21s":                                        false,
		"WINDOW=1":                                          false,
		"TAG_DOCUMENTS=window":                              true,
		"TAG_DOCUMENTS=off":                                 true,
		"TAG_DOCUMENTS=1s":                                  true,
		"TAG_DOCUMENTS=24h":                                 true,
		"TAG_DOCUMENTS=999ms":                               false,
		"TAG_DOCUMENTS=25h":                                 false,
		"TAG_DOCUMENTS=0s":                                  false,
		"TAG_DOCUMENTS=-1ns":                                false,
		"TAG_DOCUMENTS=30":                                  false,
		"TAG_DOCUMENTS=never":                               false,
		"COMMIT_DOCUMENTS=1":                                true,
		"COMMIT_DOCUMENTS=5000":                             true,
		"COMMIT_DOCUMENTS=0":                                false,
		"COMMIT_DOCUMENTS=5001":                             false,
		"COMMITS=1":                                         true,
		"COMMITS=10000":                                     true,
		"COMMITS=0":                                         false,
		"COMMITS=10001":                                     false,
		"IDEMPOTENCY_HORIZON=1m":                            true,
		"IDEMPOTENCY_HORIZON=816h":                          true,
		"IDEMPOTENCY_HORIZON=59s":                           false,
		"IDEMPOTENCY_HORIZON=817h":                          false,
		"IDEMPOTENCY_HORIZON=15":                            false,
		"IDEMPOTENCY_KEYS=1000":                             true,
		"IDEMPOTENCY_KEYS=999":                              false,
		"BUFFER_BYTES=1048576":                              true,
		"BUFFER_BYTES=1048575":                              false,
	} {
		variable, value, _ := strings.Cut(setting, "=")
		err := service.Load(map[string]string{"GOOGLE_CLOUD_PROJECT": "p", variable: value}, new(aggregator.Config))
		if (err == nil) != want || (err != nil && !strings.Contains(err.Error(), variable)) {
			t.Errorf("%s: %v, valid = %v", setting, err, want)
		}
	}
}
