package deployment

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
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
	// localText matches string locals of Terraform, and reference interpolations.
	localText = regexp.MustCompile(`(?m)^  ([a-z_]+) += "(.*)"$`)
	reference = regexp.MustCompile(`\$\{(?:local\.([a-z_]+)|[^}]*)\}`)
	// alertQuery and chartQuery match PromQL in Terraform, on one line or as a heredoc.
	alertQuery = regexp.MustCompile(`(?ms)query += (?:"((?:[^"\\]|\\.)*)"|<<-EOT\n(.*?)\n +EOT)`)
	chartQuery = regexp.MustCompile(`(?m)^      "[^"]+" += "((?:[^"\\]|\\.)*)"$`)
	// burnQuery matches the shares of failures that the alerts of SLOs compare, whose time range is RANGE.
	burnQuery = regexp.MustCompile(`(?m)^    \w+ += "((?:[^"\\]|\\.)*\[RANGE(?:[^"\\]|\\.)*)"$`)
	// span matches a code span in a page.
	span = regexp.MustCompile("(?s)`([^`]+)`")
	// metricName matches the name of a metric of the services or the platform.
	metricName = regexp.MustCompile(`\b(?:accrue|process|go)_[a-z_]+\b|\b[a-z]+_googleapis_com:`)
)

// terraformQueries returns the queries of the alerts and the dashboard with interpolated locals. Other references become a
// placeholder.
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
		case "slos.tf":
			for _, found := range burnQuery.FindAllStringSubmatch(content, -1) {
				add("slos.tf", strings.ReplaceAll(found[1], "RANGE", "5m"))
			}
		}
	}
	return queries
}

// pages returns the playbooks by name.
func pages(t *testing.T) map[string]string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(root, "docs", "playbooks", "*.md"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no playbooks: %v", err)
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

// pageQueries returns the queries in the playbooks.
func pageQueries(t *testing.T) map[string]string {
	t.Helper()
	queries := make(map[string]string)
	for name, content := range pages(t) {
		for _, found := range span.FindAllStringSubmatch(codeBlock.ReplaceAllString(content, ""), -1) {
			if metricName.MatchString(found[1]) {
				queries[name+": "+found[1]] = found[1]
			}
		}
	}
	return queries
}

// An alert whose query does not parse never fires.
func TestQueriesParse(t *testing.T) {
	t.Parallel()
	all := terraformQueries(t)
	of := make(map[string]int)
	for where := range all {
		file, _, _ := strings.Cut(where, ":")
		of[file]++
	}
	if of["alerts.tf"] < 15 || of["dashboard.tf"] < 15 || of["slos.tf"] < 2 {
		t.Errorf("found %v queries in Terraform", of)
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

// The playbooks and the alerts use only metrics from the table in docs/metrics.md.
func TestQueriesUseExistingMetrics(t *testing.T) {
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
	all := terraformQueries(t)
	maps.Copy(all, pageQueries(t))
	for where, query := range all {
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
				t.Errorf("%s: no metric %s", where, name)
			} else if kinds[base] == "histogram" && base == name && strings.ContainsAny(query, "({") {
				t.Errorf("%s: %s is a histogram: use its _bucket, _sum or _count", where, name)
			}
		}
	}
	if named < 20 {
		t.Errorf("found %d names of metrics in the playbooks", named)
	}
}

// messages returns the messages that the services log, including those that outages and retries compose.
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
	return append(all, "published") // logging.Published
}

var (
	// logMessage matches the messages in log filters, and quotedMessage those in pages.
	logMessage    = regexp.MustCompile(`jsonPayload\.message *(?:=~|=|:) *\\?"([^"\\]+)`)
	quotedMessage = regexp.MustCompile("`((?:cannot|works again) ?[^`]*)`")
)

// Playbooks, log-based metrics and exclusions search only for messages that a service logs.
func TestSearchedLogMessagesAreWritten(t *testing.T) {
	t.Parallel()
	written := messages(t)
	texts := pages(t)
	for path, content := range terraform(t) {
		texts[path] = content
	}
	searched := 0
	for where, text := range texts {
		for _, form := range []*regexp.Regexp{logMessage, quotedMessage} {
			for _, found := range form.FindAllStringSubmatch(text, -1) {
				for _, wanted := range strings.Split(strings.TrimPrefix(found[1], "^"), "|") {
					searched++
					if !slices.ContainsFunc(written, func(message string) bool { return strings.Contains(message, wanted) }) {
						t.Errorf("%s searches for %q, which no service logs", where, wanted)
					}
				}
			}
		}
	}
	if searched < 10 {
		t.Errorf("found %d searched messages", searched)
	}
}
