// Package emulatortest provides the emulators to tests: those that PUBSUB_EMULATOR_HOST and FIRESTORE_EMULATOR_HOST name,
// or else one of each kind per test binary, started by the first test that needs it and stopped after the last test.
//
//	func TestMain(m *testing.M) { emulatortest.Main(m) }
//
//	func TestCommit(t *testing.T) {
//		t.Parallel()
//		host, project := emulatortest.Firestore(t), emulatortest.Project(t)
//		…
//	}
//
// Tests are isolated by using a project of their own; they do not clean up.
package emulatortest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/accrue/accrue/tools/emulator"
)

// owned holds the emulators of this test binary. The testing package offers no other way to pass them from TestMain to
// the tests.
var owned = emulators{
	pubSub:    shared{name: "Pub/Sub", variable: "PUBSUB_EMULATOR_HOST", start: emulator.StartPubSub},
	firestore: shared{name: "Firestore", variable: "FIRESTORE_EMULATOR_HOST", start: emulator.StartFirestore},
}

// emulators holds what one test binary may start.
type emulators struct {
	// main is set by Main, which stops what the tests start.
	main              bool
	pubSub, firestore shared
}

// shared is an emulator that all tests of a binary share.
type shared struct {
	name     string
	variable string // environment variable that names a running emulator
	start    func(context.Context, emulator.Options) (*emulator.Emulator, error)

	once    sync.Once
	started *emulator.Emulator
	host    string
	err     error
}

// Main runs the tests, stops the emulators that they started, checks that no goroutine is left, and exits the process.
// TestMain must call it.
func Main(m *testing.M, options ...goleak.Option) {
	owned.main = true
	goleak.VerifyTestMain(stopsEmulators{m}, options...)
}

// stopsEmulators stops the emulators after the tests and before goleak counts goroutines.
type stopsEmulators struct{ tests *testing.M }

// Run returns the exit code of the tests.
func (s stopsEmulators) Run() int {
	code := s.tests.Run()
	if err := errors.Join(owned.pubSub.stop(), owned.firestore.stop()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return max(code, 1)
	}
	return code
}

// PubSub returns the address, "127.0.0.1:port", of a Pub/Sub emulator. It skips the test under -short and where the
// emulator is not installed. If CI is true it never skips: a missing emulator fails the test.
func PubSub(tb testing.TB) string {
	tb.Helper()
	return owned.pubSub.get(tb)
}

// Firestore is PubSub for the Firestore emulator.
func Firestore(tb testing.TB) string {
	tb.Helper()
	return owned.firestore.get(tb)
}

// FirestoreWithRules returns the address of a Firestore emulator that enforces the security rules in the file at path. It
// is not shared, and stops at the end of the test. It skips or fails the test as PubSub does.
func FirestoreWithRules(tb testing.TB, path string) string {
	tb.Helper()
	skipIfShort(tb, "Firestore")
	e, err := emulator.StartFirestore(tb.Context(), emulator.Options{Rules: path})
	mustRun(tb, "Firestore", "the Cloud SDK and Java", err)
	tb.Cleanup(func() {
		if err := e.Stop(); err != nil {
			tb.Error(err)
		}
	})
	return e.Host
}

// Project returns a random project id.
func Project(tb testing.TB) string {
	tb.Helper()
	return "test-" + strings.ToLower(rand.Text()[:20])
}

func (s *shared) get(tb testing.TB) string {
	tb.Helper()
	skipIfShort(tb, s.name)
	if !owned.main {
		tb.Fatal("TestMain must call emulatortest.Main, which stops the emulator")
	}
	s.once.Do(func() {
		if s.host = os.Getenv(s.variable); s.host != "" {
			return
		}
		// Not the test's context: the emulator outlives the test that came first.
		if s.started, s.err = s.start(context.Background(), emulator.Options{}); s.err == nil {
			s.host = s.started.Host
		}
	})
	mustRun(tb, s.name, "the Cloud SDK and Java, or "+s.variable, s.err)
	return s.host
}

// skipIfShort skips the test under -short, unless CI is true.
func skipIfShort(tb testing.TB, name string) {
	tb.Helper()
	if testing.Short() && !inCI() {
		tb.Skipf("needs the %s emulator", name)
	}
}

// mustRun ends the test unless err is nil. Outside CI a missing emulator skips the test; everything else fails it.
func mustRun(tb testing.TB, name, needs string, err error) {
	tb.Helper()
	switch {
	case err == nil:
	case errors.Is(err, emulator.ErrNotFound) && !inCI():
		tb.Skipf("needs the %s emulator of %s (%v)", name, needs, err)
	default:
		tb.Fatal(err)
	}
}

// inCI reports whether CI is true, which makes a missing emulator a failure.
func inCI() bool {
	ci, _ := strconv.ParseBool(os.Getenv("CI")) // anything else means false
	return ci
}

func (s *shared) stop() error {
	if s.started == nil {
		return nil
	}
	return s.started.Stop()
}
