package environment_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/accrue/accrue/pkg/environment"
)

type config struct {
	Port   int           `env:"PORT"   envDefault:"8080"`
	Window time.Duration `env:"WINDOW" envDefault:"1s"`
	Name   string        `env:"NAME,required"`
}

func (c *config) Validate() error {
	var faults []error
	if c.Port < 0 {
		faults = append(faults, errors.New("PORT must not be negative"))
	}
	if c.Window <= 0 {
		faults = append(faults, errors.New("WINDOW must be positive"))
	}
	return errors.Join(faults...)
}

func TestLoadReadsDefaultsAndTakesEmptyForUnset(t *testing.T) {
	t.Parallel()
	var c config
	if err := environment.Load(environment.Of([]string{"NAME=x", "PORT="}), &c); err != nil {
		t.Fatal(err)
	}
	if want := (config{Port: 8080, Window: time.Second, Name: "x"}); c != want {
		t.Errorf("config = %+v, want %+v", c, want)
	}
}

func TestLoadReportsEveryFaultAtOnce(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		variables map[string]string
		want      []string
	}{
		"of parsing":    {map[string]string{"PORT": "high", "WINDOW": "long"}, []string{"Port", "Window", "NAME"}},
		"of validation": {map[string]string{"PORT": "-1", "WINDOW": "-1s", "NAME": "x"}, []string{"PORT", "WINDOW"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := environment.Load(tc.variables, &config{})
			if err == nil {
				t.Fatal("Load() = nil")
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("Load() = %q, does not name %s", err, want)
				}
			}
		})
	}
}
