// Package databasetest opens databases for tests.
package databasetest

import (
	"testing"

	"github.com/rs/zerolog"

	"github.com/accrue/accrue/pkg/database"
)

// Open opens a database in a temporary folder, without fsync, and closes it when the test ends. It works in a bubble of
// testing/synctest.
func Open(tb testing.TB) *database.Database {
	tb.Helper()
	return OpenFolder(tb, "")
}

// OpenFolder opens the database in a folder, and closes it when the test ends.
func OpenFolder(tb testing.TB, folder string) *database.Database {
	tb.Helper()
	d, err := database.Open(database.Options{Folder: folder, Log: zerolog.Nop()})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := d.Close(); err != nil {
			tb.Error(err)
		}
	})
	return d
}
