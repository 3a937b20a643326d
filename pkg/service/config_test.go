package service_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/accrue/accrue/pkg/service"
	"github.com/accrue/accrue/pkg/service/servicetest"
)

type config struct {
	service.Config
	service.Firestore
	Partitions int           `env:"PARTITIONS" envDefault:"16"`
	Horizon    time.Duration `env:"IDEMPOTENCY_HORIZON" envDefault:"15m"`
	Tiers      []int64       `env:"RECOGNITION_TIERS" envDefault:"3"`
}

func (c *config) Rules() []service.Rule {
	return append(append(c.Config.Rules(), c.Firestore.Rules()...),
		service.Rule{Variable: "PARTITIONS", Holds: c.Partitions > 0, Want: "a positive number, such as 16"},
		service.Rule{Variable: "IDEMPOTENCY_HORIZON", Holds: c.Horizon > 0, Want: "a positive duration, such as 15m"},
		service.Rule{Variable: "RECOGNITION_TIERS", Holds: len(c.Tiers) > 0, Want: "numbers, such as 3,10"},
	)
}

func TestConfigBindsAndChecksEachVariableOnce(t *testing.T) {
	t.Parallel()
	servicetest.TestConfig[config](t)
}

func TestLoadTakesDefaultsForVariablesThatAreEmptyOrUnset(t *testing.T) {
	t.Parallel()
	var got config
	if err := service.Load(service.Environment([]string{"GOOGLE_CLOUD_PROJECT=p", "PORT=", "LOG_LEVEL= "}), &got); err != nil {
		t.Fatal(err)
	}
	want := config{
		Config:    service.Config{Project: "p", Port: 8080, LogLevel: "info", CORSOrigins: []string{"*"}},
		Firestore: service.Firestore{Database: "(default)"}, Partitions: 16, Horizon: 15 * time.Minute, Tiers: []int64{3},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("config = %+v, want %+v", got, want)
	}
}

func TestLoadIgnoresSpacesAroundValuesAndItems(t *testing.T) {
	t.Parallel()
	var got config
	err := service.Load(map[string]string{
		"GOOGLE_CLOUD_PROJECT": " p ", "PORT": " 80 ", "CORS_ORIGINS": "https://a, https://b", "RECOGNITION_TIERS": " 3 , 10 ",
	}, &got)
	if err != nil || got.Project != "p" || got.Port != 80 || len(got.CORSOrigins) != 2 || got.CORSOrigins[1] != "https://b" || got.Tiers[1] != 10 {
		t.Errorf("config = %+v, %v", got, err)
	}
}

func TestLoadReportsEveryFaultAtOnce(t *testing.T) {
	t.Parallel()
	const project = `GOOGLE_CLOUD_PROJECT must be the id of a Google Cloud project, such as my-project; it is not set`
	for name, tc := range map[string]struct {
		variables map[string]string
		want      []string
	}{
		"a required variable is not set": {nil, []string{project}},
		"a duration without a unit": {map[string]string{"GOOGLE_CLOUD_PROJECT": "p", "IDEMPOTENCY_HORIZON": "15"}, []string{
			`IDEMPOTENCY_HORIZON must be a positive duration, such as 15m; it is "15"`,
		}},
		"values that do not parse and values out of range": {
			map[string]string{"LOG_LEVEL": "verbose", "PARTITIONS": "abc", "IDEMPOTENCY_HORIZON": "-1s", "RECOGNITION_TIERS": "3,x"},
			[]string{
				project,
				`LOG_LEVEL must be debug, info, warn or error; it is "verbose"`,
				`PARTITIONS must be a positive number, such as 16; it is "abc"`,
				`IDEMPOTENCY_HORIZON must be a positive duration, such as 15m; it is "-1s"`,
				`RECOGNITION_TIERS must be numbers, such as 3,10; it is "3,x"`,
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := service.Load(tc.variables, new(config))
			if want := strings.Join(tc.want, "\n"); err == nil || err.Error() != want {
				t.Errorf("Load() = %v\nwant %s", err, want)
			}
		})
	}
}

func TestPubSubIDs(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]bool{
		"increments": true, "increments-aggregator": true, "a.b_c~d+e%20": true, "": false, "ab": false,
		"1increments": false, "projects/p/topics/increments": false, strings.Repeat("a", 256): false,
	} {
		if rule := service.PubSubID("INCREMENTS_TOPIC", id, "increments"); rule.Holds != want {
			t.Errorf("%q holds = %v, want %v", id, rule.Holds, want)
		}
	}
}
