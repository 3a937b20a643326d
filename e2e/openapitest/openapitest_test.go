package openapitest_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/accrue/accrue/e2e/openapitest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const document = `{
  "openapi": "3.0.3", "info": {"title": "Test", "version": "1"}, "servers": [{"url": "/"}],
  "paths": {
    "/things/{id}": {"get": {
      "parameters": [
        {"name": "id", "in": "path", "required": true, "schema": {"type": "string", "maxLength": 3}},
        {"name": "size", "in": "query", "schema": {"type": "integer", "minimum": 1}},
        {"name": "page_token", "in": "query", "schema": {"type": "string", "format": "page-token"}},
        {"name": "from", "in": "query", "schema": {"type": "string", "format": "date-time"}, "x-before": "to"},
        {"name": "to", "in": "query", "schema": {"type": "string", "format": "date-time"}}
      ],
      "responses": {
        "200": {"description": "it", "headers": {"ETag": {"required": true, "schema": {"type": "string", "pattern": "^x$"}}},
          "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}},
        "304": {"description": "the same", "headers": {"ETag": {"required": true, "schema": {"type": "string"}}}},
        "400": {"description": "wrong", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
      }}},
    "/things": {"post": {
      "requestBody": {"required": true, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}},
      "responses": {
        "202": {"description": "done", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}},
        "400": {"description": "wrong", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
        "413": {"description": "large", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
      }}}
  },
  "components": {"schemas": {
    "Thing": {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer", "maximum": 9}}},
    "Problem": {"type": "object", "required": ["status"], "properties": {"status": {"type": "integer"}}}
  }}
}`

const (
	plain  = "application/json"
	wrong  = "application/problem+json"
	status = `{"status":400}`
)

// Each exchange conforms to the document or violates it in one way.
func TestCheckComparesExchangesWithTheDocument(t *testing.T) {
	t.Parallel()
	for title, tc := range map[string]struct {
		request, body string // method and path; media type and body
		status        int
		header        string // media type, ETag, Allow
		answer        string
		want          string // part of the error, or empty
	}{
		"an answer":                      {"GET /things/a", "", 200, plain + ",x,", `{"n":1}`, ""},
		"an answer to HEAD":              {"HEAD /things/a", "", 200, plain + ",x,", "", ""},
		"not modified":                   {"GET /things/a", "", 304, ",x,", "", ""},
		"a refusal":                      {"GET /things/a?size=0", "", 400, wrong + ",,", status, ""},
		"an escaped id":                  {"GET /things/a%2Fb", "", 200, plain + ",x,", `{"n":1}`, ""},
		"an id that is too long":         {"GET /things/abcd", "", 200, plain + ",x,", `{"n":1}`, "not refused"},
		"a missing header":               {"GET /things/a", "", 200, plain + ",,", `{"n":1}`, "ETag"},
		"a missing header of HEAD":       {"HEAD /things/a", "", 200, plain + ",,", "", "ETag"},
		"a missing header of a 304":      {"GET /things/a", "", 304, ",,", "", "ETag"},
		"an invalid header":              {"GET /things/a", "", 200, plain + ",y,", `{"n":1}`, "ETag"},
		"another status":                 {"GET /things/a", "", 500, wrong + ",,", status, "status 500"},
		"another status of HEAD":         {"HEAD /things/a", "", 500, wrong + ",,", "", "status 500"},
		"another media type":             {"GET /things/a", "", 200, "text/html,x,", `{"n":1}`, "text/html"},
		"an unknown field":               {"GET /things/a", "", 200, plain + ",x,", `{"n":1,"m":2}`, `"m"`},
		"a missing field":                {"GET /things/a", "", 200, plain + ",x,", `{}`, `"n"`},
		"a body of a 304":                {"GET /things/a", "", 304, ",x,", "{}", "a body"},
		"an unknown parameter":           {"GET /things/a?page=1", "", 200, plain + ",x,", `{"n":1}`, "not refused"},
		"a parameter given twice":        {"GET /things/a?size=1&size=1", "", 200, plain + ",x,", `{"n":1}`, "not refused"},
		"a parameter out of bounds":      {"GET /things/a?size=0", "", 200, plain + ",x,", `{"n":1}`, "not refused"},
		"a valid request, refused":       {"GET /things/a?size=1", "", 400, wrong + ",,", status, "the document allows"},
		"an unknown page token":          {"GET /things/a?page_token=abc", "", 400, wrong + ",,", status, ""},
		"times out of order":             {"GET /things/a?from=2026-11-23T08:00:00Z&to=2026-11-23T07:00:00Z", "", 400, wrong + ",,", status, ""},
		"a time in the future":           {"GET /things/a?from=2999-11-23T08:00:00Z", "", 400, wrong + ",,", status, ""},
		"times in order, refused":        {"GET /things/a?from=2026-11-23T06:00:00Z&to=2026-11-23T07:00:00Z", "", 400, wrong + ",,", status, "the document allows"},
		"one time, refused":              {"GET /things/a?from=2020-11-23T06:00:00Z", "", 400, wrong + ",,", status, "the document allows"},
		"an unknown path":                {"GET /nothing", "", 404, wrong + ",,", `{"status":404}`, ""},
		"an undocumented path":           {"GET /nothing", "", 200, plain + ",,", `{}`, "not documented"},
		"an unknown method":              {"PUT /things", "", 405, wrong + ",,POST", `{"status":405}`, ""},
		"no header Allow":                {"PUT /things", "", 405, wrong + ",,", `{"status":405}`, "Allow"},
		"a file of a page":               {"GET /docs/swagger-ui.css", "", 200, "text/css,,", `html{}`, ""},
		"a post":                         {"POST /things", plain + ",{\"n\":1}", 202, plain + ",,", `{"n":1}`, ""},
		"a post in UTF-8":                {"POST /things", plain + "; charset=utf-8,{\"n\":1}", 202, plain + ",,", `{"n":1}`, ""},
		"a post in Latin-1":              {"POST /things", plain + "; charset=latin1,{\"n\":1}", 202, plain + ",,", `{"n":1}`, "UTF-8"},
		"a post out of bounds, accepted": {"POST /things", plain + ",{\"n\":10}", 202, plain + ",,", `{"n":1}`, "not refused"},
		"a post out of bounds":           {"POST /things", plain + ",{\"n\":10}", 400, wrong + ",,", status, ""},
		"a post out of bounds, failed":   {"POST /things", plain + ",{\"n\":10}", 500, wrong + ",,", status, "not refused"},
		"a fraction, accepted":           {"POST /things", plain + ",{\"n\":1.0}", 202, plain + ",,", `{"n":1}`, "as an integer"},
		"a field given twice, accepted":  {"POST /things", plain + ",{\"n\":1,\"n\":1}", 202, plain + ",,", `{"n":1}`, "twice"},
		"a field given twice":            {"POST /things", plain + ",{\"n\":1,\"n\":1}", 400, wrong + ",,", status, ""},
		"two values, accepted":           {"POST /things", plain + ",{\"n\":1}{}", 202, plain + ",,", `{"n":1}`, "follows"},
		"no JSON, accepted":              {"POST /things", plain + ",{\"n\":", 202, plain + ",,", `{"n":1}`, "not refused"},
		"too large":                      {"POST /things", plain + `,{"n":1` + strings.Repeat(" ", 1<<20) + "}", 413, wrong + ",,", `{"status":413}`, ""},
		"not too large, refused":         {"POST /things", plain + `,{"n":1}`, 413, wrong + ",,", `{"status":413}`, "the document allows"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			d, err := openapitest.Read(t.Context(), []byte(document))
			if err != nil {
				t.Fatal(err)
			}
			method, path, _ := strings.Cut(tc.request, " ")
			media, body, _ := strings.Cut(tc.body, ",")
			e := openapitest.Exchange{Request: httptest.NewRequest(method, path, nil), Body: []byte(body), Status: tc.status, Header: http.Header{}, Answer: []byte(tc.answer)}
			if media != "" {
				e.Request.Header.Set("Content-Type", media)
			}
			for i, value := range strings.Split(tc.header, ",") {
				if value != "" {
					e.Header.Set([]string{"Content-Type", "ETag", "Allow"}[i], value)
				}
			}
			err = d.Check(t.Context(), e)
			if (err == nil) != (tc.want == "") || (err != nil && !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("Check() = %v, want %q", err, tc.want)
			}
		})
	}
}

func TestReadRefusesAnInvalidDocument(t *testing.T) {
	t.Parallel()
	for title, text := range map[string]string{
		"no JSON":         "{",
		"no title":        strings.Replace(document, `"title": "Test", `, "", 1),
		"no such schema":  strings.Replace(document, "schemas/Thing", "schemas/Other", 1),
		"no problems":     `{"openapi": "3.0.3", "info": {"title": "Test", "version": "1"}, "paths": {}, "components": {"schemas": {}}}`,
		"a wrong example": strings.Replace(document, `"maximum": 9`, `"maximum": 9, "example": 10`, 1),
	} {
		if _, err := openapitest.Read(t.Context(), []byte(text)); err == nil {
			t.Errorf("%s: Read() = nil", title)
		}
	}
}
