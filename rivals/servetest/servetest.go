// Package servetest tests rivals.
package servetest

import (
	"fmt"
	"maps"
	"os"
	"sync"
	"testing"

	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/rivals/serve"
)

// Folder returns a temporary folder that every user may enter, as PostgreSQL does.
func Folder(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "rivals-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(folder); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(folder, 0o755); err != nil { //nolint:gosec // for tests of another user's server
		t.Fatal(err)
	}
	return folder
}

// Counts tests a counter that has counted nothing, from several goroutines. If it is exact, each post is made twice at the
// same time and must count once; otherwise it must count twice.
func Counts(t *testing.T, c serve.Counter, exact bool) {
	t.Helper()
	var posting sync.WaitGroup
	for n := range 20 {
		key := message.KeyOf(fmt.Sprint("post ", n))
		for range 2 {
			posting.Go(func() {
				increments := []message.Increment{{Tag: "foo", Value: 4, Key: key}}
				if n%2 == 1 {
					increments = append(increments, message.Increment{Tag: "ballz", Value: 7, Key: key.Next()})
				}
				if err := c.Add(t.Context(), increments); err != nil {
					t.Errorf("Add() = %v", err)
				}
			})
		}
	}
	posting.Wait()
	Has(t, c, exact)
}

// Has tests that a counter has what Counts posted.
func Has(t *testing.T, c serve.Counter, exact bool) {
	t.Helper()
	want := map[string]int64{"foo": 20 * 4, "ballz": 10 * 7}
	if !exact {
		want = map[string]int64{"foo": 2 * 20 * 4, "ballz": 2 * 10 * 7}
	}
	got, err := c.Totals(t.Context())
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("Totals() = %v, %v, want %v", got, err, want)
	}
}
