package query_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/accrue/accrue/pkg/service"
	"github.com/accrue/accrue/pkg/service/servicetest"
	"github.com/accrue/accrue/query"
)

func TestConfigBindsAndChecksEachVariableOnce(t *testing.T) {
	t.Parallel()
	servicetest.TestConfig[query.Config](t)
}

func TestConfigHasDefaults(t *testing.T) {
	t.Parallel()
	var got query.Config
	if err := service.Load(map[string]string{"GOOGLE_CLOUD_PROJECT": "p"}, &got); err != nil {
		t.Fatal(err)
	}
	want := query.Config{
		Config:    service.Config{Project: "p", Port: 8080, LogLevel: "info", CORSOrigins: []string{"*"}},
		Firestore: service.Firestore{Database: "(default)"},
		Refresh:   500 * time.Millisecond, MetricsTags: 1000, RecognitionsTopic: "recognitions", RecognitionTiers: []int64{3},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("defaults = %+v, want %+v", got, want)
	}
}

func TestConfigChecksBounds(t *testing.T) {
	t.Parallel()
	for setting, want := range map[string]bool{
		"REFRESH=10ms":               true,
		"REFRESH=1m":                 true,
		"REFRESH=9ms":                false,
		"METRICS_TAGS=1":             true,
		"METRICS_TAGS=100000":        true,
		"METRICS_TAGS=0":             false,
		"METRICS_TAGS=many":          false,
		"METRICS_TAGS=100001":        false,
		"REFRESH=61s":                false,
		"RECOGNITIONS_TOPIC=abc":     true,
		"RECOGNITIONS_TOPIC=ab":      false,
		"RECOGNITION_TIERS=5":        true,
		"RECOGNITION_TIERS=3,10,100": true,
		"RECOGNITION_TIERS=3, 10":    true,
		"RECOGNITION_TIERS=3,x":      false,
		"RECOGNITION_TIERS=3,":       false,
		"RECOGNITION_TIERS=3 10":     false,
		"RECOGNITION_TIERS=-1":       false,
		"RECOGNITION_TIERS=0":        false,
		"RECOGNITION_TIERS=3,3":      false,
		"RECOGNITION_TIERS=10,3":     false,
		"RECOGNITION_TIERS=1.5":      false,
		"RECOGNITION_WEBHOOKS=crm":   false,
		"RECOGNITION_WEBHOOK_SECRETS=crm=whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw": false, // of no receiver
	} {
		variable, value, _ := strings.Cut(setting, "=")
		err := service.Load(map[string]string{"GOOGLE_CLOUD_PROJECT": "p", variable: value}, new(query.Config))
		if (err == nil) != want || (err != nil && !strings.Contains(err.Error(), variable)) {
			t.Errorf("%s: %v, valid = %v", setting, err, want)
		}
	}
}

func TestConfigHasReceivers(t *testing.T) {
	t.Parallel()
	var got query.Config
	err := service.Load(map[string]string{
		"GOOGLE_CLOUD_PROJECT": "p", "RECOGNITION_WEBHOOKS": "crm=https://crm.example/a?b=c, mail=http://mail/",
		"RECOGNITION_WEBHOOK_SECRETS": "mail=whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw,crm=whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
	}, &got)
	if err != nil || !reflect.DeepEqual(got.Receivers(), []string{"crm", "mail"}) || got.WebhookSubscription("crm") != "recognitions-webhook-crm" {
		t.Errorf("%v, receivers %v", err, got.Receivers())
	}
	// What is secret is not shown.
	err = service.Load(map[string]string{"GOOGLE_CLOUD_PROJECT": "p", "RECOGNITION_WEBHOOK_SECRETS": "crm=sesame"}, &got)
	if err == nil || strings.Contains(err.Error(), "sesame") {
		t.Errorf("Load() = %v", err)
	}
}
