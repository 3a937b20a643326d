package deployment

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	// gcloudStart matches the place before a command: a prompt, a substitution, another command, a code span, or a comment.
	gcloudStart = regexp.MustCompile("(?m)(?:^\\$ |^#   |\\$\\(|&& |; do |`)gcloud ")
	// gcloudRest matches the rest of a command, with the lines that it continues on.
	gcloudRest = regexp.MustCompile("^(?:\\\\\\n|[^\\n`])*")
	// substitution matches what a shell replaces in a command.
	substitution = regexp.MustCompile(`\$\([^)]*\)|\$\{?\w+\}?`)
)

// shellValues are the values of variables whose form gcloud checks.
var shellValues = map[string]string{"$SNAPSHOT": "2026-11-26T20:00:00Z"}

// gcloudCommands returns the commands of gcloud in a text.
func gcloudCommands(text string) []string {
	var all []string
	for _, found := range gcloudStart.FindAllStringIndex(text, -1) {
		command := strings.ReplaceAll(strings.ReplaceAll("gcloud "+gcloudRest.FindString(text[found[1]:]), "\\\n#", " "), "\\\n", " ")
		command = substitution.ReplaceAllStringFunc(command, func(s string) string {
			if value, ok := shellValues[s]; ok {
				return value
			}
			return "x"
		})
		quote := rune(0)
		end := strings.IndexFunc(command, func(r rune) bool {
			switch {
			case quote != 0:
				if r == quote {
					quote = 0
				}
			case r == '\'' || r == '"':
				quote = r
			default:
				return strings.ContainsRune(";&|)", r)
			}
			return false
		})
		if end >= 0 {
			command = command[:end]
		}
		all = append(all, strings.Join(strings.Fields(command), " "))
	}
	return all
}

func TestGcloudCommandsAreFound(t *testing.T) {
	t.Parallel()
	text := "$ gcloud auth login && gcloud a b\n$ gcloud c --d=$X \\\n    --e='f; g'\n$ H=$(gcloud i --j)\n$ for c in a; do gcloud k $c; done\nand `gcloud l --time=$SNAPSHOT`, but not gcloud itself"
	want := "gcloud auth login|gcloud a b|gcloud c --d=x --e='f; g'|gcloud i --j|gcloud k x|gcloud l --time=2026-11-26T20:00:00Z"
	if got := strings.Join(gcloudCommands(text), "|"); got != want {
		t.Errorf("found %s, want %s", got, want)
	}
}

// Every command of gcloud in the documentation exists, and takes the flags that it is given.
func TestGcloudCommandsParse(t *testing.T) {
	t.Parallel()
	gcloud, err := exec.LookPath("gcloud")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("gcloud is not installed")
	}
	type linted struct {
		Command string `json:"command_string"`
		Success bool   `json:"success"`
		Error   string `json:"error_message"`
	}
	where := make(map[string]string)
	var all []linted
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() && (entry.Name() == "node_modules" || entry.Name() == ".git") {
			if err == nil {
				err = fs.SkipDir
			}
			return err
		}
		if extension := filepath.Ext(path); extension != ".md" && extension != ".yaml" && extension != ".yml" && extension != ".tf" {
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, command := range gcloudCommands(string(content)) {
			if where[command] == "" {
				all = append(all, linted{Command: command})
			}
			where[command] = path
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 15 {
		t.Errorf("found %d commands", len(all))
	}
	encoded, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "commands.json")
	if err := os.WriteFile(file, encoded, 0o600); err != nil {
		t.Fatal(err)
	}
	output, err := exec.CommandContext(t.Context(), gcloud, "meta", "lint-gcloud-commands", "--commands-file="+file).Output()
	if err != nil {
		t.Fatalf("lint: %v", err)
	}
	var results []linted
	if err := json.Unmarshal(output, &results); err != nil {
		t.Fatal(err)
	}
	if len(results) != len(all) {
		t.Errorf("%d of %d commands were looked at", len(results), len(all))
	}
	for i, result := range results {
		if !result.Success {
			t.Errorf("%s: %s\n\t%s", where[all[i].Command], all[i].Command, result.Error)
		}
	}
}
