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

// settingRow matches a row of the table in docs/settings.md: | `VARIABLE` | services | default | ...
var settingRow = regexp.MustCompile("(?m)^\\| `([A-Z_]+)` \\| ([a-z, ]+) \\| ([^|]*)\\|")

// docs/settings.md lists exactly the settings that the services read, with their defaults.
func TestSettingsTableEqualsTheConfigs(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(root, "docs", "settings.md"))
	if err != nil {
		t.Fatal(err)
	}
	type setting struct{ service, variable string }
	documented := make(map[setting]string)
	for _, row := range settingRow.FindAllStringSubmatch(string(text), -1) {
		for service := range strings.SplitSeq(row[2], ", ") {
			documented[setting{service, row[1]}] = strings.Trim(strings.TrimSpace(row[3]), "`")
		}
	}
	for service, config := range configs() {
		all := variables(t, config)
		for _, name := range slices.Sorted(maps.Keys(all)) {
			want := all[name].fallback
			if all[name].required {
				want = "required"
			}
			row := setting{service, name}
			if got, ok := documented[row]; !ok || got != want {
				t.Errorf("%s of %s is documented with the default %q (in the table: %v), want %q", name, service, got, ok, want)
			}
			delete(documented, row)
		}
	}
	for row := range documented {
		t.Errorf("%s is documented for %s, which does not read it", row.variable, row.service)
	}
}
