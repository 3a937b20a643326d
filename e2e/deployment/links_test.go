package deployment

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

var (
	pageLink    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	pageHeading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	codeBlock   = regexp.MustCompile("(?s)```.*?```")
	linkText    = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
)

// anchors returns the names that GitHub gives to the headings of a page.
func anchors(page string) map[string]bool {
	all := make(map[string]bool)
	for _, heading := range pageHeading.FindAllStringSubmatch(codeBlock.ReplaceAllString(page, ""), -1) {
		name := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, linkText.ReplaceAllString(heading[1], "$1"))
		all[name] = true
	}
	return all
}

func TestAnchorsAreThoseOfGitHub(t *testing.T) {
	t.Parallel()
	got := anchors("# A [page](x.md)\n\n## 1. Sign in, and `make` a_place\n```\n# not a heading\n```\n### Pub/Sub frozen\n")
	for _, want := range []string{"a-page", "1-sign-in-and-make-a_place", "pubsub-frozen"} {
		if !got[want] {
			t.Errorf("%v has no %s", got, want)
		}
	}
	if len(got) != 3 {
		t.Errorf("found %v", got)
	}
}

// Every link of the documentation to a file of the repository, and to a heading in it, leads there.
func TestLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	followed := 0
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (entry.Name() == "node_modules" || entry.Name() == ".git") {
			return fs.SkipDir
		}
		if filepath.Ext(path) != ".md" {
			return nil
		}
		page, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, found := range pageLink.FindAllStringSubmatch(codeBlock.ReplaceAllString(string(page), ""), -1) {
			if strings.Contains(found[1], "://") || strings.HasPrefix(found[1], "mailto:") {
				continue
			}
			followed++
			file, anchor, _ := strings.Cut(found[1], "#")
			target := path
			if file != "" {
				target = filepath.Join(filepath.Dir(path), file)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %s: %v", path, found[1], err)
				continue
			}
			if anchor == "" || filepath.Ext(target) != ".md" {
				continue
			}
			content, err := os.ReadFile(target)
			if err != nil {
				return err
			}
			if !anchors(string(content))[anchor] {
				t.Errorf("%s: %s has no heading %q", path, target, anchor)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if followed < 100 {
		t.Errorf("followed %d links", followed)
	}
}
