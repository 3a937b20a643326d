package commands_test

import (
	"reflect"
	"testing"
)

func TestParse(t *testing.T) {
	t.Parallel()
	const page = "# Page\n\nRun `make run`.\n\n```console\n$ a \\\n  b\nout\n$ c\n```\n\n## Cloud\n<!-- not run: it needs a cloud -->\n\n### Part\n```console\n$ d\n```\n\n## Local\n```console\n$ e\n```\n"
	blocks, inline, err := parse(page)
	want := []block{
		{line: 5, commands: []command{{6, "a \\\n  b", []string{"out"}}, {9, "c", nil}}},
		{line: 16, commands: []command{{17, "d", nil}}, notRun: "it needs a cloud"},
		{line: 21, commands: []command{{22, "e", nil}}},
	}
	if err != nil || !reflect.DeepEqual(blocks, want) || !reflect.DeepEqual(inline, []string{"make run"}) {
		t.Errorf("parse() = %+v, %q, %v, want %+v", blocks, inline, err, want)
	}
	for _, bad := range []string{"```sh\nls\n```\n", "```console\nls\n```\n"} {
		if _, _, err := parse(bad); err == nil {
			t.Errorf("parse(%q) = nil", bad)
		}
	}
}

func TestOutputIsCompared(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		expected []string
		output   string
		missing  string
	}{
		"the same":        {[]string{"a", "b"}, "a\nb\n", ""},
		"wrapped":         {[]string{`{"a":1,`, ` "b":2}`}, `{"a":1,"b":2}`, ""},
		"left out":        {[]string{"a", "...", "c"}, "a\nb\nc\n", ""},
		"another time":    {[]string{`"2026-11-23T08:01:41.566Z","lag_ms":0`}, `"2027-01-01T00:00:00Z","lag_ms":712`, ""},
		"another number":  {[]string{`{"foo":13}`}, `{"foo":14}`, `{"foo":13}`},
		"another order":   {[]string{"a", "b"}, "b\na\n", "b"},
		"nothing printed": {[]string{"a"}, "", "a"},
	} {
		if got := firstMissing(tc.expected, tc.output); got != tc.missing {
			t.Errorf("%s: missing %q, want %q", name, got, tc.missing)
		}
	}
}
