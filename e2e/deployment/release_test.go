package deployment

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A release has the notes of its version, and none is published without.
func TestReleaseNotesAreASectionOfTheChangelog(t *testing.T) {
	t.Parallel()
	notes := func(version string) (string, error) {
		output, err := exec.CommandContext(t.Context(), filepath.Join(root, ".ci", "release-notes"), version).Output()
		return string(output), err
	}
	got, err := notes("v0.1.0")
	if err != nil || !strings.Contains(got, "The first version") || strings.Contains(got, "Unreleased") || strings.Contains(got, "\n## ") {
		t.Errorf("the notes of v0.1.0 are %q, %v", got, err)
	}
	if got, err := notes("v9.9.9"); err == nil {
		t.Errorf("a version without a section has the notes %q", got)
	}
}

// The workflow publishes each target that Terraform deploys.
func TestReleasePublishesEachImage(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile(filepath.Join(root, ".github", "workflows", "release.yml"))
	if err != nil {
		t.Fatal(err)
	}
	published := regexp.MustCompile(`target: \[([a-z, ]+)\]`).FindStringSubmatch(string(content))
	if published == nil || published[1] != "ingest, aggregator, query, accrue" {
		t.Errorf("published are %v", published)
	}
}
