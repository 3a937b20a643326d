package e2e

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"

	"github.com/accrue/accrue/tools/emulator/emulatortest"
)

// The health checks of the emulators in the compose file succeed if an emulator answers, and fail otherwise.
func TestComposeChecksOfEmulators(t *testing.T) {
	t.Parallel()
	options, err := cli.NewProjectOptions([]string{filepath.Join("..", "docker-compose.yml")}, cli.WithName("accrue-test"))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, emulator := range []struct{ service, inside, address string }{
		{"pubsub", "127.0.0.1:8085", emulatortest.PubSub(t)},
		{"firestore", "127.0.0.1:8086", emulatortest.Firestore(t)},
	} {
		check := project.Services[emulator.service].HealthCheck.Test[1:] // without CMD
		for address, healthy := range map[string]bool{emulator.address: true, "127.0.0.1:1": false} {
			words := make([]string, len(check))
			for i, word := range check {
				words[i] = strings.ReplaceAll(word, emulator.inside, address)
			}
			if words[len(words)-1] == check[len(check)-1] {
				t.Fatalf("the health check of %s does not call %s: %q", emulator.service, emulator.inside, check)
			}
			output, err := exec.CommandContext(t.Context(), words[0], words[1:]...).CombinedOutput()
			if (err == nil) != healthy {
				t.Errorf("the health check of %s at %s: %v, want healthy: %v\n%s", emulator.service, address, err, healthy, output)
			}
		}
	}
}
