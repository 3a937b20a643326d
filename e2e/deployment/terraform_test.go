package deployment

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// terraform returns the content of the deployed Terraform files by path.
func terraform(t *testing.T) map[string]string {
	t.Helper()
	files := make(map[string]string)
	for _, pattern := range []string{"*.tf", "modules/*/*.tf"} {
		paths, err := filepath.Glob(filepath.Join(root, "terraform", pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			files[path] = string(content)
		}
	}
	if len(files) == 0 {
		t.Fatal("no Terraform files")
	}
	return files
}

var (
	// wideRoles matches roles with broad permissions in a project.
	wideRoles = regexp.MustCompile(`roles/(owner|editor|viewer|iam\.\w*[aA]dmin|resourcemanager\.\w+)"`)
	// wholePolicies matches resources that remove roles from all other accounts of the project.
	wholePolicies = regexp.MustCompile(`resource "google_project_iam_(binding|policy)"`)
	// writesOnly matches roles that read nothing, and that IAM cannot narrow.
	writesOnly   = regexp.MustCompile(`roles/(monitoring\.metricWriter|logging\.logWriter)"`)
	projectRoles = regexp.MustCompile(`(?ms)^resource "google_project_iam_member" "(\w+)" \{.*?^\}`)
)

// The Terraform tests compare known resources with a list of roles. This test also covers new resources.
func TestNoAccountHasAProjectWideRole(t *testing.T) {
	t.Parallel()
	for path, content := range terraform(t) {
		if found := wideRoles.FindString(content); found != "" {
			t.Errorf("%s grants %s", path, found)
		}
		if found := wholePolicies.FindString(content); found != "" {
			t.Errorf("%s has a %s", path, found)
		}
		for _, found := range projectRoles.FindAllStringSubmatch(content, -1) {
			if !strings.Contains(found[0], "\n  condition {") && !writesOnly.MatchString(found[0]) {
				t.Errorf("%s: google_project_iam_member.%s is on the whole project, without a condition", path, found[1])
			}
		}
	}
}

// Terraform runs the images that cloudbuild.yaml and docs/deploy.md build.
func TestBuildsAndDeploysEachService(t *testing.T) {
	t.Parallel()
	build, err := os.ReadFile(filepath.Join(root, "deployments", "cloudbuild.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	guide, err := os.ReadFile(filepath.Join(root, "docs", "deploy.md"))
	if err != nil {
		t.Fatal(err)
	}
	deployed := terraform(t)[filepath.Join(root, "terraform", "main.tf")]
	for name := range configs() {
		for where, needs := range map[string][]string{
			string(build): {"--target=" + name + ",", "--tag=$_IMAGES/" + name + ":$_TAG", "\n  - $_IMAGES/" + name + ":$_TAG\n"},
			string(guide): {"--target " + name + " -t $IMAGES/" + name + ":$TAG .", "docker push $IMAGES/" + name + ":$TAG"},
			deployed:      {"${local.images}/" + name + "${local.version." + name + "}"},
		} {
			for _, need := range needs {
				if !strings.Contains(where, need) {
					t.Errorf("%s: %q is missing in\n%s", name, need, where[:min(len(where), 200)])
				}
			}
		}
	}
}

// Terraform's schema is the definition of the message, and Pub/Sub accepts it.
func TestSchemaEqualsTheMessage(t *testing.T) {
	t.Parallel()
	const path = "../pkg/message/batch.proto"
	for name, content := range terraform(t) {
		if filepath.Base(name) == "variables.tf" && filepath.Base(filepath.Dir(name)) == "terraform" && !strings.Contains(content, path) {
			t.Errorf("%s does not name %s", name, path)
		}
	}
	definition, err := os.ReadFile(filepath.Join(root, "terraform", path))
	if err != nil {
		t.Fatal(err)
	}
	// Pub/Sub requires one top-level message and no imports.
	if n := len(regexp.MustCompile(`(?m)^message `).FindAll(definition, -1)); n != 1 {
		t.Errorf("%s has %d top-level messages: a schema has one", path, n)
	}
	if regexp.MustCompile(`(?m)^import `).Match(definition) {
		t.Errorf("%s imports: a schema cannot", path)
	}
}

// The table of the archive has a column for each field of a message: without one Pub/Sub does not write the message.
func TestArchiveHasEachFieldOfAMessage(t *testing.T) {
	t.Parallel()
	definition, err := os.ReadFile(filepath.Join(root, "pkg/message/batch.proto"))
	if err != nil {
		t.Fatal(err)
	}
	archive, err := os.ReadFile(filepath.Join(root, "terraform/archive.tf"))
	if err != nil {
		t.Fatal(err)
	}
	types := map[string]string{"bytes": "BYTES", "string": "STRING", "uint32": "INTEGER", "int64": "INTEGER", "uint64": "NUMERIC"}
	want := make(map[string]int)
	for _, field := range regexp.MustCompile(`(?m)^ +(repeated )?(\w+) (\w+) = \d+;`).FindAllStringSubmatch(string(definition), -1) {
		if field[1] != "" {
			want[field[3]+" RECORD"]++
		} else {
			want[field[3]+" "+types[field[2]]]++
		}
	}
	got := make(map[string]int)
	for _, column := range regexp.MustCompile(`name = "(\w+)", type = "(\w+)"`).FindAllStringSubmatch(string(archive), -1) {
		got[column[1]+" "+column[2]]++
	}
	for _, ours := range []string{"subscription_name STRING", "message_id STRING", "publish_time TIMESTAMP", "attributes JSON"} { // Pub/Sub's
		delete(got, ours)
	}
	if !maps.Equal(got, want) {
		t.Errorf("columns %v, want %v", got, want)
	}
}

// Terraform and the documentation deploy the Firestore rules that the end-to-end tests use.
func TestDeploysTheTestedRules(t *testing.T) {
	t.Parallel()
	const path = "../deployments/firestore.rules"
	if _, err := os.Stat(filepath.Join(root, "terraform", path)); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"terraform/variables.tf", "docs/deploy.md", "docs/firebase.md"} {
		if content, err := os.ReadFile(filepath.Join(root, name)); err != nil || !strings.Contains(string(content), path) {
			t.Errorf("%s does not name %s (%v)", name, path, err)
		}
	}
}

var alert = regexp.MustCompile(`(?m)^    ([a-z-]+) = \{\n      severity `)

// Each alert has a playbook, and each playbook an alert.
func TestEachAlertHasItsPlaybook(t *testing.T) {
	t.Parallel()
	var alerts, playbooks []string
	for _, found := range alert.FindAllStringSubmatch(terraform(t)[filepath.Join(root, "terraform", "alerts.tf")], -1) {
		alerts = append(alerts, found[1])
	}
	for page := range pages(t) {
		if name := strings.TrimSuffix(page, ".md"); name != "README" {
			playbooks = append(playbooks, name)
		}
	}
	slices.Sort(alerts)
	slices.Sort(playbooks)
	if !slices.Equal(alerts, playbooks) {
		t.Errorf("alerts are %v, playbooks %v", alerts, playbooks)
	}
}

var counted = regexp.MustCompile(`jsonPayload\.error : "([^"]+)"`)

// A log-based metric of an error that no service logs would always be zero.
func TestCountedErrorsAreLogged(t *testing.T) {
	t.Parallel()
	filters := counted.FindAllStringSubmatch(terraform(t)[filepath.Join(root, "terraform", "logs.tf")], -1)
	if len(filters) == 0 {
		t.Fatal("no metric counts an error")
	}
	sources, err := filepath.Glob(filepath.Join(root, "aggregator", "internal", "*", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, filter := range filters {
		if !slices.ContainsFunc(sources, func(path string) bool {
			source, err := os.ReadFile(path)
			return err == nil && !strings.HasSuffix(path, "_test.go") && strings.Contains(string(source), filter[1])
		}) {
			t.Errorf("the aggregator never logs %q", filter[1])
		}
	}
}

var dependsOn = regexp.MustCompile(`(?ms)^module "(\w+)" \{\n.*?depends_on = \[(.*?)\]`)

// What reads is upgraded before what writes.
func TestUpgradesQueryThenAggregatorThenIngest(t *testing.T) {
	t.Parallel()
	order := make(map[string]string)
	for _, found := range dependsOn.FindAllStringSubmatch(terraform(t)[filepath.Join(root, "terraform", "main.tf")], -1) {
		order[found[1]] = found[2]
	}
	for module, after := range map[string]string{"aggregator": "module.query", "ingest": "module.aggregator"} {
		if !strings.Contains(order[module], after) {
			t.Errorf("%s depends on %q, want %s among them", module, order[module], after)
		}
	}
	if strings.Contains(order["query"], "module.") {
		t.Errorf("query depends on %q", order["query"])
	}
}
