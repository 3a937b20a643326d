// Package adapters runs the contract suites of the Pub/Sub and Firestore adapters against the emulators.
package adapters_test

import (
	"testing"

	"github.com/accrue/accrue/tools/emulator/emulatortest"
)

func TestMain(m *testing.M) { emulatortest.Main(m) }
