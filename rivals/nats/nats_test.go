package nats_test

import (
	"testing"

	"github.com/accrue/accrue/rivals/nats"
	"github.com/accrue/accrue/rivals/servetest"
)

func TestCountsAndKeepsTotals(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]nats.Options{
		"without keys": {}, "with keys": {Exact: true}, "with keys and fsync": {Exact: true, Sync: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			options.Folder = t.TempDir()
			c, err := nats.New(t.Context(), options)
			if err != nil {
				t.Fatal(err)
			}
			servetest.Counts(t, c, options.Exact)
			c.Close()
			if c, err = nats.New(t.Context(), options); err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			servetest.Has(t, c, options.Exact)
		})
	}
}
