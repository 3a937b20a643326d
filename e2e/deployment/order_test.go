package deployment

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	// blocks matches the resources, data and modules of a Terraform file, and localsBlocks its locals.
	blocks       = regexp.MustCompile(`(?ms)^(resource|data|module) "(\w+)"(?: "(\w+)")? \{\n(.*?)^\}`)
	localsBlocks = regexp.MustCompile(`(?ms)^locals \{\n(.*?)^\}`)
	localNames   = regexp.MustCompile(`(?m)^  (\w+) += `)
	comments     = regexp.MustCompile(`(?m)^\s*#.*$|\s# .*$`)
	references   = regexp.MustCompile(`\b(?:data\.)?google_\w+\.\w+|\bmodule\.\w+|\blocal\.\w+`)
	targets      = regexp.MustCompile(`-target=module\.accrue\.([\w.]+)`)
)

// order is what each resource, module and local of the Terraform module refers to. Terraform makes these before it.
type order map[string][]string

// orderOf reads the order from the files of the module itself, without those of modules/.
func orderOf(files map[string]string) order {
	o := make(order)
	add := func(name, text string) {
		uses := slices.DeleteFunc(references.FindAllString(text, -1), func(use string) bool { return use == name })
		o[name] = append(o[name], uses...)
	}
	for path, content := range files {
		if strings.Contains(path, "modules") {
			continue
		}
		content = comments.ReplaceAllString(content, "")
		for _, found := range blocks.FindAllStringSubmatch(content, -1) {
			switch found[1] {
			case "resource":
				add(found[2]+"."+found[3], found[4])
			case "data":
				add("data."+found[2]+"."+found[3], found[4])
			default:
				add("module."+found[2], found[4])
			}
		}
		for _, found := range localsBlocks.FindAllStringSubmatch(content, -1) {
			places := localNames.FindAllStringSubmatchIndex(found[1], -1)
			for i, place := range places {
				end := len(found[1])
				if i+1 < len(places) {
					end = places[i+1][0]
				}
				add("local."+found[1][place[2]:place[3]], found[1][place[1]:end])
			}
		}
	}
	return o
}

// before returns everything that Terraform makes before something, however indirectly.
func (o order) before(name string) map[string]bool {
	all := make(map[string]bool)
	var visit func(string)
	visit = func(name string) {
		for _, use := range o[name] {
			if !all[use] {
				all[use] = true
				visit(use)
			}
		}
	}
	visit(name)
	return all
}

func TestOrderIsFound(t *testing.T) {
	t.Parallel()
	o := orderOf(map[string]string{"main.tf": `
locals {
  name = google_a.x.name # google_z.z
  list = [
    "more ${google_b.y.id}",
  ]
}

resource "google_c" "this" {
  name = local.name
  # not google_e.f
  depends_on = [module.m]
}

module "m" {
  list = local.list
}
`})
	got := slices.Sorted(maps.Keys(o.before("google_c.this")))
	want := []string{"google_a.x", "google_b.y", "local.list", "local.name", "module.m"}
	if !slices.Equal(got, want) {
		t.Errorf("before it are %v, want %v", got, want)
	}
}

// In a new project everything is made at once. What a program needs exists before it runs, though it names it by a string only: a
// reference or depends_on says so. The image of each service is built before; docs/deploy.md has the order.
func TestNothingNeedsWhatIsMadeLater(t *testing.T) {
	t.Parallel()
	o := orderOf(terraform(t))
	counting := []string{
		"google_firestore_database.this", "google_project_iam_member.database", "google_project_iam_member.metrics",
		// Documents that are written before an exemption are indexed.
		"google_firestore_field.unindexed", "google_firestore_field.expiring",
		"google_pubsub_topic.dead_letter", "google_pubsub_subscription.redrive", // a dead letter without a subscription is lost
		"google_pubsub_subscription.aggregator", "google_pubsub_subscription_iam_member.this", "google_pubsub_topic_iam_member.this",
	}
	reading := []string{
		"google_firestore_database.this", "google_project_iam_member.database", "google_project_iam_member.metrics",
		"google_firestore_field.queried",
		"google_pubsub_topic.recognitions", "google_pubsub_topic_iam_member.this", "google_pubsub_subscription.recognitions_push",
	}
	for name := range o {
		if strings.HasPrefix(name, "google_firestore_index.") {
			reading = append(reading, name)
		}
	}
	posting := []string{
		"google_pubsub_topic.increments", "google_pubsub_topic_iam_member.this", "google_project_iam_member.metrics",
		"google_pubsub_subscription.aggregator",                                          // what is published before it has a subscription is not counted
		"google_pubsub_subscription.archive", "google_bigquery_table_iam_member.archive", // or not archived
	}
	for what, needs := range map[string][]string{
		"module.ingest":     posting,
		"module.aggregator": counting,
		"module.query":      reading,
		"module.single":     slices.Concat(posting, counting, reading),

		"google_pubsub_subscription.archive":                {"google_service_account_iam_member.pubsub", "google_bigquery_table.increments"},
		"google_firestore_backup_schedule.this":             {"google_firestore_database.this"},
		"google_firebaserules_release.clients":              {"google_firestore_database.this"},
		"google_compute_region_network_endpoint_group.this": {"module.ingest", "module.query", "module.single"},
		"google_monitoring_alert_policy.this": {
			"google_logging_metric.assertions_failed", "google_logging_metric.entries_waiting", "google_logging_metric.checkpoint_full",
			"google_logging_metric.checkpoint_filling", "google_monitoring_notification_channel.email",
		},
	} {
		if o[what] == nil {
			t.Errorf("there is no %s", what)
		}
		before := o.before(what)
		for _, need := range needs {
			if !before[need] {
				t.Errorf("%s may be made before %s", what, need)
			}
		}
	}
	for name := range o {
		if before := o.before(name); strings.HasPrefix(name, "google_") && name != "google_project_service.this" && !before["google_project_service.this"] {
			t.Errorf("%s may be made before its API is enabled", name)
		} else if before[name] && !strings.HasPrefix(name, "local.") {
			t.Errorf("%s needs itself", name)
		}
	}
}

// What the pages make first, with -target, exists and needs no service, whose image is built afterwards.
func TestWhatIsMadeFirstNeedsNoService(t *testing.T) {
	t.Parallel()
	o := orderOf(terraform(t))
	seen := 0
	err := filepath.WalkDir(filepath.Join(root, "docs"), func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".md" {
			return err
		}
		page, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, found := range targets.FindAllStringSubmatch(string(page), -1) {
			seen++
			if o[found[1]] == nil || strings.HasPrefix(found[1], "module.") {
				t.Errorf("%s: there is no %s, or it is a service", path, found[1])
			}
			for before := range o.before(found[1]) {
				if strings.HasPrefix(before, "module.") {
					t.Errorf("%s: %s needs %s", path, found[1], before)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 3 {
		t.Errorf("found %d targets", seen)
	}
}
