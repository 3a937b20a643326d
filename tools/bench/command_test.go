package bench

import (
	"strings"
	"testing"
	"time"
)

func TestPhasesThatAreMeasured(t *testing.T) {
	t.Parallel()
	good := settings{rounds: 1, each: time.Second, connections: 1, batch: 1, probes: 10}
	for name, tc := range map[string]struct {
		change func(*settings)
		want   string // the phases
		fault  string
	}{
		"all":                   {func(*settings) {}, "cost rates freshness memory streams words", ""},
		"some, in their order":  {func(s *settings) { s.only = []string{"words", "cost"} }, "cost words", ""},
		"an unknown one":        {func(s *settings) { s.only = []string{"cost", "speed"} }, "", "--only must be some of cost, rates"},
		"no rounds":             {func(s *settings) { s.rounds = 0 }, "", "--rounds"},
		"a moment":              {func(s *settings) { s.each = time.Millisecond }, "", "--each"},
		"a batch that is large": {func(s *settings) { s.batch = 1001 }, "", "--batch"},
		"few probes":            {func(s *settings) { s.probes = 9 }, "", "--probes"},
	} {
		s := good
		tc.change(&s)
		chosen, err := s.validate()
		var names []string
		for _, p := range chosen {
			names = append(names, p.name)
		}
		if got := strings.Join(names, " "); got != tc.want {
			t.Errorf("%s: measures %q, want %q", name, got, tc.want)
		}
		if (err == nil) != (tc.fault == "") || err != nil && !strings.Contains(err.Error(), tc.fault) {
			t.Errorf("%s: %v, want an error with %q", name, err, tc.fault)
		}
	}
	// The help names all of them.
	help := Command().Flags().Lookup("only").Usage
	for _, p := range phases() {
		if !strings.Contains(help, p.name) {
			t.Errorf("--only %q does not name %s", help, p.name)
		}
	}
}
