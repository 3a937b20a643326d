package service

import (
	"bytes"
	"strings"
	"testing"
)

func TestCommandPrintsTheVersionAndRefusesOtherArguments(t *testing.T) {
	t.Parallel()
	for arguments, want := range map[string]int{"version": 0, "--version": 0, "--port 80": 2, "--version x": 2} {
		var stdout, stderr bytes.Buffer
		code := command("ingest", strings.Fields(arguments), &stdout, &stderr)
		if code != want || (code == 0) != strings.HasPrefix(stdout.String(), "ingest (devel) go") || (code == 0) != (stderr.Len() == 0) {
			t.Errorf("%s: %d, stdout %q, stderr %q, want %d", arguments, code, &stdout, &stderr, want)
		}
	}
}
