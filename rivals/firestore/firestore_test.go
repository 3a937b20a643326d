package firestore_test

import (
	"testing"

	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/rivals/firestore"
	"github.com/accrue/accrue/rivals/servetest"
	"github.com/accrue/accrue/tools/emulator/emulatortest"
)

func TestMain(m *testing.M) { emulatortest.Main(m) }

func connect(t *testing.T, o firestore.Options) *firestore.Counter {
	t.Helper()
	c, err := firestore.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestCountsAndKeepsTotals(t *testing.T) {
	t.Parallel()
	for name, shards := range map[string]int{"one document": 1, "ten shards": 10} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			options := firestore.Options{Host: emulatortest.Firestore(t), Project: emulatortest.Project(t), Shards: shards}
			servetest.Counts(t, connect(t, options), false)
			servetest.Has(t, connect(t, options), false)
		})
	}
}

// Firestore refuses ids of the form __x__, which are fine as tags.
func TestEveryNameOfATagIsAnID(t *testing.T) {
	t.Parallel()
	c := connect(t, firestore.Options{Host: emulatortest.Firestore(t), Project: emulatortest.Project(t), Shards: 1})
	if err := c.Add(t.Context(), []message.Increment{{Tag: "__foo__", Value: 3}}); err != nil {
		t.Fatal(err)
	}
	if totals, err := c.Totals(t.Context()); err != nil || totals["__foo__"] != 3 {
		t.Errorf("Totals() = %v, %v, want 3 of __foo__", totals, err)
	}
}

func TestACounterNeedsAShard(t *testing.T) {
	t.Parallel()
	if _, err := firestore.New(t.Context(), firestore.Options{Host: "127.0.0.1:1", Project: "none"}); err == nil {
		t.Error("New() = nil error, want one")
	}
}
