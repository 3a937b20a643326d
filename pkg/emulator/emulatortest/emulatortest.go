// Package emulatortest gives tests the emulators: those that the environment names, or else one of each kind for the
// whole test binary, started by the first test that asks and stopped when the last has ended.
//
//	func TestMain(m *testing.M) { emulatortest.Main(m) }
//
//	func TestCommit(t *testing.T) {
//		t.Parallel()
//		host, project := emulatortest.Firestore(t), emulatortest.Project(t)
//		…
//	}
//
// Tests keep out of each other's way by projects of their own, not by cleaning up.
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

	"github.com/accrue/accrue/pkg/emulator"
)

// owned are the emulators of this test binary. The testing package offers no other way from TestMain to the tests.
var owned = emulators{
	pubSub:    shared{name: "Pub/Sub", variable: "PUBSUB_EMULATOR_HOST", start: emulator.StartPubSub},
	firestore: shared{name: "Firestore", variable: "FIRESTORE_EMULATOR_HOST", start: emulator.StartFirestore},
}

// emulators is what one test binary may own.
type emulators struct {
	// main is set when Main runs: somebody will stop what is started.
	main              bool
	pubSub, firestore shared
}

// shared is one emulator for all tests that ask.
type shared struct {
	name     string
	variable string // the environment variable that names one that already runs
	start    func(context.Context, emulator.Options) (*emulator.Emulator, error)

	once    sync.Once
	started *emulator.Emulator
	host    string
	err     error
}

// Main runs the tests, stops the emulators that they started, checks that no goroutine is left, and exits the process.
// TestMain calls it.
func Main(m *testing.M, options ...goleak.Option) {
	owned.main = true
	goleak.VerifyTestMain(stopsEmulators{m}, options...)
}

// stopsEmulators runs tests and stops the emulators after them, before anybody counts goroutines.
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

// PubSub returns the host, "127.0.0.1:port", of a Pub/Sub emulator. Under -short, and on a machine without the emulator,
// the test is skipped; never if CI is true: there a missing emulator fails the test.
func PubSub(tb testing.TB) string {
	tb.Helper()
	return owned.pubSub.get(tb)
}

// Firestore returns the host of a Firestore emulator, as PubSub.
func Firestore(tb testing.TB) string {
	tb.Helper()
	return owned.firestore.get(tb)
}

// FirestoreWithRules returns the host of a Firestore emulator of the test's own, with a file of security rules loaded. It
// is stopped when the test has ended. Where there is no emulator, the test is skipped or fails as by PubSub.
func FirestoreWithRules(tb testing.TB, path string) string {
	tb.Helper()
	leftOutIfShort(tb, "Firestore")
	e, err := emulator.StartFirestore(tb.Context(), emulator.Options{Rules: path})
	mustRun(tb, "Firestore", "the Cloud SDK and Java", err)
	tb.Cleanup(func() {
		if err := e.Stop(); err != nil {
			tb.Error(err)
		}
	})
	return e.Host
}

// Project returns the id of a project that no other test uses.
func Project(tb testing.TB) string {
	tb.Helper()
	return "test-" + strings.ToLower(rand.Text()[:20])
}

func (s *shared) get(tb testing.TB) string {
	tb.Helper()
	leftOutIfShort(tb, s.name)
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

// leftOutIfShort skips the test under -short, unless CI is true.
func leftOutIfShort(tb testing.TB, name string) {
	tb.Helper()
	if testing.Short() && !inCI() {
		tb.Skipf("left out by -short: it needs the %s emulator", name)
	}
}

// mustRun ends the test if err says that an emulator does not run: as skipped where there is none, outside of CI.
func mustRun(tb testing.TB, name, needs string, err error) {
	tb.Helper()
	switch {
	case err == nil:
	case errors.Is(err, emulator.ErrNotFound) && !inCI():
		tb.Skipf("left out: it needs the %s emulator of %s (%v)", name, needs, err)
	default:
		tb.Fatal(err)
	}
}

// inCI says whether what is missing is a fault.
func inCI() bool {
	ci, _ := strconv.ParseBool(os.Getenv("CI")) // anything else is no
	return ci
}

func (s *shared) stop() error {
	if s.started == nil {
		return nil
	}
	return s.started.Stop()
}
