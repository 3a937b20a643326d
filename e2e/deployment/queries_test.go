package deployment

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	promql "github.com/prometheus/prometheus/promql/parser"
)

var (
	// localText finds the locals of Terraform that are texts, and reference what refers to one, or to anything else.
	localText = regexp.MustCompile(`(?m)^  ([a-z_]+) += "(.*)"$`)
	reference = regexp.MustCompile(`\$\{(?:local\.([a-z_]+)|[^}]*)\}`)
	// alertQuery and chartQuery find PromQL in Terraform: on one line, or as a heredoc.
	alertQuery = regexp.MustCompile(`(?ms)query += (?:"((?:[^"\\]|\\.)*)"|<<-EOT\n(.*?)\n +EOT)`)
	chartQuery = regexp.MustCompile(`(?m)^      "[^"]+" += "((?:[^"\\]|\\.)*)"$`)
	// span is a piece of code in a page.
	span = regexp.MustCompile("(?s)`([^`]+)`")
	// metricName is one of the names that the services and the platform give to metrics.
	metricName = regexp.MustCompile(`\b(?:accrue|process|go)_[a-z_]+\b|\b[a-z]+_googleapis_com:`)
)

// terraformQueries are the queries of the alerts and the dashboard, with what they refer to put in. What Terraform knows
// when it is applied alone is a word.
func terraformQueries(t *testing.T) map[string]string {
	t.Helper()
	files := terraform(t)
	locals := make(map[string]string)
	for _, content := range files {
		for _, found := range localText.FindAllStringSubmatch(content, -1) {
			locals[found[1]] = found[2]
		}
	}
	var resolve func(text string, depth int) string
	resolve = func(text string, depth int) string {
		return reference.ReplaceAllStringFunc(text, func(r string) string {
			if value, ok := locals[reference.FindStringSubmatch(r)[1]]; ok && depth > 0 {
				return resolve(value, depth-1)
			}
			return "x"
		})
	}
	queries := make(map[string]string)
	add := func(file, text string) {
		queries[file+": "+text] = strings.ReplaceAll(resolve(text, 4), `\"`, `"`)
	}
	for path, content := range files {
		switch filepath.Base(path) {
		case "alerts.tf":
			for _, found := range alertQuery.FindAllStringSubmatch(content, -1) {
				add("alerts.tf", found[1]+found[2])
			}
		case "dashboard.tf":
			for _, found := range chartQuery.FindAllStringSubmatch(content, -1) {
				add("dashboard.tf", found[1])
			}
		}
	}
	return queries
}

// pages are the playbooks by name.
func pages(t *testing.T) map[string]string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(root, "docs", "playbooks", "*.md"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("there are no playbooks (%v)", err)
	}
	all := make(map[string]string)
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(path)] = string(content)
	}
	return all
}

// pageQueries are the queries in the playbooks.
func pageQueries(t *testing.T) map[string]string {
	t.Helper()
	queries := make(map[string]string)
	for name, content := range pages(t) {
		for _, found := range span.FindAllStringSubmatch(content, -1) {
			if metricName.MatchString(found[1]) {
				queries[name+": "+found[1]] = found[1]
			}
		}
	}
	return queries
}

// A query that does not parse is an alert that never fires, and a look that finds nothing in the middle of the night.
func TestQueriesParse(t *testing.T) {
	t.Parallel()
	all := terraformQueries(t)
	if len(all) < 20 {
		t.Errorf("found %d queries in Terraform", len(all))
	}
	for where, query := range pageQueries(t) {
		all[where] = query
	}
	language := promql.NewParser(promql.Options{})
	for where, query := range all {
		if _, err := language.ParseExpr(query); err != nil {
			t.Errorf("%s\n\t%s: %v", where, query, err)
		}
	}
}

var documentedMetric = regexp.MustCompile("(?m)^\\| `(accrue_[a-z_]+)` \\| [a-z, ]+ \\| ([a-z]+) \\|")

// What the playbooks and the table of metrics name is the same.
func TestPlaybooksUseExistingMetrics(t *testing.T) {
	t.Parallel()
	table, err := os.ReadFile(filepath.Join(root, "docs", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	kinds := make(map[string]string)
	for _, row := range documentedMetric.FindAllStringSubmatch(string(table), -1) {
		kinds[row[1]] = row[2]
	}
	named := 0
	for where, query := range pageQueries(t) {
		for _, name := range metricName.FindAllString(query, -1) {
			if !strings.HasPrefix(name, "accrue_") {
				continue
			}
			named++
			base := name
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				if b, ok := strings.CutSuffix(name, suffix); ok && kinds[b] == "histogram" {
					base = b
				}
			}
			if kinds[base] == "" {
				t.Errorf("%s: nothing is called %s", where, name)
			} else if kinds[base] == "histogram" && base == name && strings.ContainsAny(query, "({") {
				t.Errorf("%s: %s is a histogram: ask for its _bucket, _sum or _count", where, name)
			}
		}
	}
	if named < 20 {
		t.Errorf("found %d names of metrics in the playbooks", named)
	}
}

// messages are what the services log: the words of their lines and, since these are put together, of their outages.
func messages(t *testing.T) []string {
	t.Helper()
	var all []string
	text := func(e ast.Expr) string {
		literal, ok := e.(*ast.BasicLit)
		if !ok || literal.Kind != token.STRING {
			return ""
		}
		s, err := strconv.Unquote(literal.Value)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for _, folder := range []string{"ingest", "aggregator", "query", "pkg"} {
		err := filepath.WalkDir(filepath.Join(root, folder), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok || len(call.Args) == 0 {
					return true
				}
				name := ""
				switch f := call.Fun.(type) {
				case *ast.SelectorExpr:
					name = f.Sel.Name
				case *ast.Ident:
					name = f.Name
				}
				first, last := text(call.Args[0]), text(call.Args[len(call.Args)-1])
				switch {
				case name == "Msg" && first != "", name == "say" && last != "", name == "Fatal" && last != "":
					all = append(all, first+last)
				case name == "NewOutage" && last != "":
					all = append(all, "cannot "+last, "works again: "+last)
				case name == "newRetry" && first != "":
					all = append(all, "cannot "+first, "works again: "+first)
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return append(all, "published") // of logging.Published
}

var (
	// logMessage finds the messages that log filters search for, and quotedMessage those that pages quote.
	logMessage    = regexp.MustCompile(`jsonPayload\.message *(?:=~|=|:) *\\?"([^"\\]+)`)
	quotedMessage = regexp.MustCompile("`((?:cannot|works again) ?[^`]*)`")
)

// Playbooks, metrics and exclusions that search for a log message which no service writes never find anything.
func TestSearchedLogMessagesAreWritten(t *testing.T) {
	t.Parallel()
	written := messages(t)
	texts := pages(t)
	for path, content := range terraform(t) {
		texts[path] = content
	}
	looked := 0
	for where, text := range texts {
		for _, form := range []*regexp.Regexp{logMessage, quotedMessage} {
			for _, found := range form.FindAllStringSubmatch(text, -1) {
				for _, wanted := range strings.Split(strings.TrimPrefix(found[1], "^"), "|") {
					looked++
					if !slices.ContainsFunc(written, func(message string) bool { return strings.Contains(message, wanted) }) {
						t.Errorf("%s searches for %q, which no service logs", where, wanted)
					}
				}
			}
		}
	}
	if looked < 10 {
		t.Errorf("found %d searched messages", looked)
	}
}
