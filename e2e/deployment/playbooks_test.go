package deployment

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// playbookLines is the most lines of a playbook, so that it fits a screen.
const playbookLines = 40

// playbookSections are the headings of each playbook, in their order.
var playbookSections = []string{"What it means", "What to look at first", "What to do", "How to know it is over"}

// sections returns the headings of the second level of a page, and the text below each.
func sections(page string) (headings []string, texts map[string]string) {
	texts = make(map[string]string)
	for _, part := range strings.Split("\n"+page, "\n## ")[1:] {
		heading, text, _ := strings.Cut(part, "\n")
		headings, texts[heading] = append(headings, heading), strings.TrimSpace(text)
	}
	return headings, texts
}

// playbookFaults returns what is wrong with the form of a playbook.
func playbookFaults(name, page string) (faults []string) {
	if !strings.HasPrefix(page, "# "+name+": ") {
		faults = append(faults, "it does not begin with its name")
	}
	if n := strings.Count(page, "\n"); n > playbookLines {
		faults = append(faults, "it has too many lines")
	}
	headings, texts := sections(page)
	if !slices.Equal(headings, playbookSections) {
		faults = append(faults, "its sections are "+strings.Join(headings, ", "))
	}
	for _, heading := range playbookSections {
		if texts[heading] == "" {
			faults = append(faults, "nothing is below "+heading)
		}
	}
	if !strings.Contains(texts[playbookSections[1]], "\n$ ") {
		faults = append(faults, "no command is the first thing to look at")
	}
	return faults
}

// A playbook fits one screen: what the alert means, what to look at first, what to do, and how to know it is over.
func TestPlaybooksHaveOneForm(t *testing.T) {
	t.Parallel()
	checked := 0
	for file, page := range pages(t) {
		name := strings.TrimSuffix(file, ".md")
		if name == "README" {
			continue
		}
		checked++
		for _, fault := range playbookFaults(name, page) {
			t.Errorf("%s: %s", file, fault)
		}
	}
	if checked < 10 {
		t.Errorf("found %d playbooks", checked)
	}
}

func TestPlaybooksOfAnotherFormAreFound(t *testing.T) {
	t.Parallel()
	const page = "# slow: totals are slow\n\n## What it means\nA.\n## What to look at first\n```console\n$ b\n```\n## What to do\nC.\n## How to know it is over\nD.\n"
	if faults := playbookFaults("slow", page); len(faults) > 0 {
		t.Errorf("a playbook has the faults %q", faults)
	}
	for what, tc := range map[string]struct{ old, new string }{
		"another name":      {"# slow", "# fast"},
		"a missing section": {"## What to do\nC.\n", ""},
		"another order":     {"## What it means\nA.\n", "## What to do\nC.\n## What it means\nA.\n"},
		"an empty section":  {"D.\n", ""},
		"no command":        {"$ b", "b"},
		"a second screen":   {"C.\n", strings.Repeat("C.\n", playbookLines)},
	} {
		if faults := playbookFaults("slow", strings.Replace(page, tc.old, tc.new, 1)); len(faults) == 0 {
			t.Errorf("%s is not found", what)
		}
	}
}

var (
	// indexed matches the rows of the table of alerts.
	indexed = regexp.MustCompile(`(?m)^\| \[([a-z-]+)\]\(([a-z-]+)\.md\)(.*?) \| [^|]+ \|$`)
	// promised matches the SLOs with the playbooks of their alerts.
	promised = regexp.MustCompile(`(?m)^ +(\w+) += \{.*playbook = "([a-z-]+)"`)
)

// The index has each alert once, those of the SLOs beside the playbook that they link.
func TestIndexOfPlaybooksHasEachAlert(t *testing.T) {
	t.Parallel()
	files := terraform(t)
	var alerts, rows []string
	for _, found := range alert.FindAllStringSubmatch(files[filepath.Join(root, "terraform", "alerts.tf")], -1) {
		alerts = append(alerts, found[1])
	}
	beside := make(map[string]string)
	_, texts := sections(pages(t)["README.md"])
	for _, found := range indexed.FindAllStringSubmatch(texts["By alert"], -1) {
		if found[1] != found[2] {
			t.Errorf("the row %s links %s.md", found[1], found[2])
		}
		rows = append(rows, found[1])
		beside[found[1]] = found[3]
	}
	slices.Sort(alerts)
	slices.Sort(rows)
	if !slices.Equal(alerts, rows) {
		t.Errorf("the index has %v, want %v", rows, alerts)
	}
	slos := promised.FindAllStringSubmatch(files[filepath.Join(root, "terraform", "slos.tf")], -1)
	for _, slo := range slos {
		if !strings.Contains(beside[slo[2]], "`"+slo[1]+"` burn") {
			t.Errorf("the burn of the SLO %s is not beside %s", slo[1], slo[2])
		}
	}
	if len(slos) < 2 {
		t.Errorf("found %d SLOs", len(slos))
	}
	if texts["By complaint"] == "" {
		t.Error("there is no index by complaint")
	}
}
