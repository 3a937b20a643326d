package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/accrue/accrue/tools/cli"
)

func execute(t *testing.T, stdin string, arguments ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, failed bytes.Buffer
	root := command(nil)
	root.SetIn(strings.NewReader(stdin))
	code = cli.Execute(t.Context(), root, arguments, &out, &failed)
	return code, out.String(), failed.String()
}

func TestHelpFitsAScreenAndHasExamples(t *testing.T) {
	t.Parallel()
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		if c.Name() == "completion" || c.Hidden || c.Name() == "version" {
			return
		}
		path := strings.Fields(c.CommandPath())[1:]
		code, help, _ := execute(t, "", append(path, "--help")...)
		if lines := strings.Count(help, "\n"); code != 0 || lines > 45 || !strings.Contains(help, "Examples:") {
			t.Errorf("%s --help: exit code %d, %d lines", c.CommandPath(), code, lines)
		}
		for line := range strings.Lines(help) {
			if len(line) > 125 {
				t.Errorf("%s --help: %d characters in %q", c.CommandPath(), len(line), line)
			}
		}
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(command(nil))
}

func TestErrorsAreOneLineWithTheCauseAndAddress(t *testing.T) {
	t.Parallel()
	const closed = "127.0.0.1:1"
	for arguments, want := range map[string]struct {
		code int
		text string
	}{
		"version":                                  {0, ""},
		"--version":                                {0, ""},
		"completion bash":                          {0, ""},
		"nothing":                                  {2, `unknown command "nothing"`},
		"--nothing":                                {2, "unknown flag: --nothing"},
		"load --url http://" + closed:              {1, closed + ": connect: connection refused"},
		"load --batch 0":                           {2, "--batch"},
		"post foo=10":                              {2, "foo: the value must be 1 to 9"},
		"post foo=x":                               {2, `foo: "x" is not an integer`},
		"post --words foo":                         {2, "--words"},
		"post --url nowhere foo":                   {2, "URL must be"},
		"post --url http://" + closed + " foo":     {1, closed + ": connect: connection refused"},
		"export":                                   {2, "totals, history or contributors"},
		"export totals --format x":                 {2, "--format"},
		"export totals --tag foo":                  {2, "--tag"},
		"export totals --url nowhere":              {2, "--url must be"},
		"export totals --url http://" + closed:     {1, closed + ": connect: connection refused"},
		"bench --rounds 0":                         {2, "--rounds"},
		"bench --bin nowhere x":                    {2, `unknown argument "x"`},
		"redrive":                                  {2, "GOOGLE_CLOUD_PROJECT"},
		"recognitions":                             {2, "GOOGLE_CLOUD_PROJECT"},
		"redrive --project p --emulator " + closed: {1, closed + ": connect: connection refused"},
		"redrive --project p --firestore-emulator " + closed: {1, closed + ": connect: connection refused"},
		"recognitions --project p --emulator " + closed:      {1, closed + ": connect: connection refused"},
		"cost --rate 0":             {2, "--rate"},
		"emulators --pubsub-port x": {2, "--pubsub-port"},
		"run x":                     {2, `unknown argument "x"`},
		"run --data x --project p":  {2, "--data and --project"},
		"run --port 0 --data= --emulator " + closed: {1, closed + ": connect: connection refused"},
		"run --port 70000":                          {2, "--port"},
	} {
		code, _, stderr := execute(t, "", strings.Fields(arguments)...)
		if code != want.code || !strings.Contains(stderr, want.text) || strings.Count(stderr, "\n") > 1 {
			t.Errorf("accrue %s: exit code %d, printed %q, want %d and one line with %q", arguments, code, stderr, want.code, want.text)
		}
	}
}

// The three services share settings.
func TestAWrongSettingIsReportedOnce(t *testing.T) {
	t.Parallel()
	var out, failed bytes.Buffer
	code := cli.Execute(t.Context(), command(map[string]string{"LOG_LEVEL": "loud", "PARTITIONS": "none"}), []string{"run", "--port", "0"}, &out, &failed)
	if text := failed.String(); code != 2 || strings.Count(text, "LOG_LEVEL") != 1 || !strings.Contains(text, "PARTITIONS") || strings.Count(text, "\n") != 1 {
		t.Errorf("exit code %d, %q", code, text)
	}
}
