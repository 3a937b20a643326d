package deployment

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	// testLink matches links whose text names tests, and testName each of the names.
	testLink = regexp.MustCompile("\\[(`(?:Test|Fuzz)[^\\]]*)\\]\\(([^)]+)\\)")
	testName = regexp.MustCompile("`((?:Test|Fuzz)\\w+)`")
)

// The tests that the documentation names exist, and are in the files that it links to.
func TestDocumentedTestsExist(t *testing.T) {
	t.Parallel()
	named := 0
	err := filepath.WalkDir(filepath.Join(root, "docs"), func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".md" {
			return err
		}
		page, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, link := range testLink.FindAllStringSubmatch(string(page), -1) {
			source, err := os.ReadFile(filepath.Join(filepath.Dir(path), link[2]))
			if err != nil {
				t.Errorf("%s: %v", path, err)
				continue
			}
			for _, name := range testName.FindAllStringSubmatch(link[1], -1) {
				if named++; !strings.Contains(string(source), "\nfunc "+name[1]+"(") {
					t.Errorf("%s: %s has no %s", path, link[2], name[1])
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if named < 20 {
		t.Errorf("found %d names of tests", named)
	}
}
