package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDocumentsAreUpToDate(t *testing.T) {
	t.Parallel()
	for service, folders := range services() {
		for i, folder := range folders {
			folders[i] = filepath.Join("..", "..", folder)
		}
		want, err := generate(t.Context(), folders)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(folders[0], fileName))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("the document of %s is out of date: run `make generate`", service)
		}
	}
}

// api is an API of one operation, whose annotations a test replaces.
const api = `package api

const most = 9

//	@title			Test
//	@version		1
//	@description	Numbers up to ${most}.
//	@tag.name			numbers
//	@tag.description	Numbers.
//	@x-header-etag	{"schema":{"pattern":"^x$"},"example":"x"}

//	@Summary		One number
//	@Description	Returns a number.
//	@ID				getNumber
//	@Tags			numbers
//	@Produce		json
//	@Param			n	query		integer	true	"The number."	extensions(x-go-maximum=most,x-example=4)
//	@Success		200	{object}	Number	"The number."
//	@Header			200	{string}	ETag	"Its name."
//	@x-example-200	{"n":4}
//	@Router			/number [get]

// Number is a number.
type Number struct {
	// A number.
	N int ` + "`json:\"n\" validate:\"required\" extensions:\"x-go-maximum=most\"`" + `
} //	@name	Number
`

// generateOf generates the document of an API of one file.
func generateOf(ctx context.Context, t *testing.T, source string) ([]byte, error) {
	t.Helper()
	folder := t.TempDir()
	for name, content := range map[string]string{generalFile: source, "go.mod": "module test\n\ngo 1.26\n"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return generate(ctx, []string{folder})
}

func TestDocumentHasConstantsAndExamples(t *testing.T) {
	t.Setenv("GOWORK", "off")
	document, err := generateOf(t.Context(), t, api)
	if err != nil {
		t.Fatal(err)
	}
	for text, times := range map[string]int{
		`"maximum": 9`: 2, `"description": "Numbers up to 9."`: 1, `"example": 4`: 1, `"pattern": "^x$"`: 1, `"required": true`: 2,
		`"n": 4`: 1, "x-": 0,
	} {
		if got := strings.Count(string(document), text); got != times {
			t.Errorf("%s is there %d times, want %d:\n%s", text, got, times, document)
		}
	}
}

func TestRefusesErrorsAndGaps(t *testing.T) {
	if testing.Short() {
		t.Skip("generates many documents")
	}
	t.Setenv("GOWORK", "off")
	for title, tc := range map[string]struct{ old, with, want string }{
		"an example that breaks a bound":          {`{"n":4}`, `{"n":10}`, "maximum"},
		"an example that lacks a field":           {`{"n":4}`, `{}`, "n"},
		"no example of an answer":                 {`//	@x-example-200	{"n":4}` + "\n", "", "200 application/json has no example"},
		"no example of a parameter":               {",x-example=4", "", "parameter n has no example"},
		"an example of an optional parameter":     {"integer	true", "integer	false", "n is optional and has an example"},
		"no example of a header":                  {`//	@x-header-etag	{"schema":{"pattern":"^x$"},"example":"x"}` + "\n", "", "header ETag has no example"},
		"a type that is described beside the API": {"// Number is a number.\n", "// Number is a number.\n//\n//	@Description	A number.\n", "describe types in another file"},
		"no summary":                          {"//	@Summary		One number\n", "", "no summary"},
		"no id":                               {"//	@ID				getNumber\n", "", "no id"},
		"no description of a field":           {"	// A number.\n", "", "Number.n has no description"},
		"an undescribed tag":                  {"//	@tag.name			numbers\n", "", "no tag that is described"},
		"a constant that there is not":        {"const most", "const least", "most: no such constant"},
		"a constant of the wrong type":        {"const most = 9", `const most = "nine"`, "is not a number"},
		"an unknown keyword":                  {"x-go-maximum=most,", "x-go-largest=most,", "unknown keyword largest"},
		"a type that there is not":            {"{object}	Number", "{object}	Count", "Count"},
		"a name that is none, in a text":      {"${most}", "${least}", "least: no such constant"},
		"a pattern that is not regular":       {"^x$", "^(x$", "regexp"},
		"an example that is not JSON":         {`{"n":4}`, `{n:4}`, "valid json"},
		"an example of a header that is none": {`"example":"x"`, `"example":"y"`, "ETag"},
	} {
		t.Run(title, func(t *testing.T) {
			if !strings.Contains(api, tc.old) {
				t.Fatalf("the API does not say %q", tc.old)
			}
			_, err := generateOf(t.Context(), t, strings.ReplaceAll(api, tc.old, tc.with))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("generate() = %v, want an error about %q", err, tc.want)
			}
		})
	}
}
