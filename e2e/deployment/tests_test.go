package deployment

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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

// `make operate` runs the tests that docs/operate.md names, and no name in it is one of no test, which go test would pass over.
func TestMakeOperateRunsTheTestsOfThePage(t *testing.T) {
	t.Parallel()
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(root, "docs", "operate.md"))
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^OPERATE := (.+)$`).FindSubmatch(makefile)
	if line == nil {
		t.Fatal("the Makefile has no OPERATE")
	}
	run := strings.Split(string(line[1]), "|")
	paths, err := filepath.Glob("../*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var sources strings.Builder
	for _, path := range paths {
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		sources.Write(source)
	}
	for _, name := range run {
		if !strings.Contains(sources.String(), "\nfunc "+name+"(") {
			t.Errorf("make operate runs %s, which is no test", name)
		}
	}
	named := 0
	for _, name := range testName.FindAllStringSubmatch(string(page), -1) {
		if named++; !slices.Contains(run, name[1]) {
			t.Errorf("make operate does not run %s", name[1])
		}
	}
	if named < 4 {
		t.Errorf("the page names %d tests", named)
	}
}
