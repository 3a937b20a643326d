package api_test

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/service/web"
	"github.com/accrue/accrue/pkg/store"
)

type badgeBody struct {
	SchemaVersion         int
	Label, Message, Color string
}

func TestBadgesOfTags(t *testing.T) {
	t.Parallel()
	views := empty()
	views.show(start, checkpoint.Total{Name: "ballz", Total: 1234567}, checkpoint.Total{Name: "foo", Total: 13})
	h := handler(views)
	for name, message := range map[string]string{"foo": "13", "ballz": "1,234,567", "never": "0"} {
		answer := get(h, "/badges/"+name+".json")
		var body badgeBody
		if err := json.Unmarshal([]byte(answer.body), &body); err != nil || body.SchemaVersion != 1 || body.Label != name || body.Message != message || body.Color == "" {
			t.Errorf("%s: %s", name, answer.body)
		}
		drawn := get(h, "/badges/"+name+".svg")
		if text := texts(t, drawn.body); !strings.Contains(text, name+": "+message) {
			t.Errorf("%s: %s", name, drawn.body)
		}
		for header, want := range map[string]string{
			"Content-Type": "image/svg+xml", "Content-Security-Policy": "default-src 'none'; sandbox", "X-Content-Type-Options": "nosniff", "Cache-Control": "public, max-age=60",
		} {
			if got := drawn.header.Get(header); got != want {
				t.Errorf("%s: %s = %q, want %q", name, header, got, want)
			}
		}
	}
	first := request(t, http.MethodGet, serve(t, h)+"/badges/foo.svg")
	if again := request(t, http.MethodGet, serve(t, h)+"/badges/foo.svg", "If-None-Match: "+first.header.Get("ETag")); again.status != http.StatusNotModified {
		t.Errorf("%d for the same, want 304", again.status)
	}
	for path, status := range map[string]int{
		"/badges/foo": http.StatusNotFound, "/badges/foo.png": http.StatusNotFound, "/badges/Foo.svg": http.StatusNotFound, "/badges/.svg": http.StatusNotFound,
		"/badges/foo.svg?style=flat": http.StatusBadRequest, "/badges/contributors/.svg": http.StatusNotFound, "/badges/contributors/ada": http.StatusNotFound,
	} {
		if got := get(h, path); got.status != status {
			t.Errorf("%s: %d, want %d", path, got.status, status)
		}
	}
	if got := get(handler(empty()), "/badges/foo.svg"); got.status != http.StatusServiceUnavailable {
		t.Errorf("before the first view: %d, want 503", got.status)
	}
}

// oneStanding has the same contributor whatever the id.
type oneStanding struct {
	hangingStore  // of everything else
	contributions int64
	err           error
}

func (s *oneStanding) Standing(_ context.Context, id string) (store.Standing, error) {
	return store.Standing{Contributor: store.Contributor{ID: id, Contributions: s.contributions}, AsOf: start}, s.err
}

func TestBadgesOfContributorsAreWellFormedWhateverTheId(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"ada", "</text><script>alert(1)</script>", `"&'<>`, "a/b.svg", "\ufffe", strings.Repeat("x", 128), "山田太郎", "ada.json"} {
		s := &oneStanding{contributions: 4321}
		h := newHandler(example(), s, nil, web.Base{})
		drawn := get(h, "/badges/contributors/"+url.PathEscape(id)+".svg")
		if text := texts(t, drawn.body); drawn.status != http.StatusOK || !strings.Contains(text, "4,321") || strings.Contains(drawn.body, "<script") {
			t.Errorf("%q: %d %s", id, drawn.status, drawn.body)
		}
		var body badgeBody
		answer := get(h, "/badges/contributors/"+url.PathEscape(id)+".json")
		if err := json.Unmarshal([]byte(answer.body), &body); err != nil || body.Message != "4,321" || len([]rune(body.Label)) > 40 {
			t.Errorf("%q: %s", id, answer.body)
		}
	}
	if got := get(newHandler(example(), &oneStanding{err: store.ErrNotFound}, nil, web.Base{}), "/badges/contributors/eve.svg"); !strings.Contains(texts(t, got.body), "eve: 0") {
		t.Errorf("one who never contributed: %d %s", got.status, got.body)
	}
	if got := get(newHandler(example(), &oneStanding{err: errors.New("down")}, nil, web.Base{}), "/badges/contributors/eve.svg"); got.status != http.StatusServiceUnavailable {
		t.Errorf("a store that is down: %d", got.status)
	}
}

// texts returns the text of a document, which must be well-formed.
func texts(t *testing.T, document string) string {
	t.Helper()
	var all strings.Builder
	for decoder := xml.NewDecoder(strings.NewReader(document)); ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return all.String()
		}
		if err != nil {
			t.Fatalf("%v: %s", err, document)
		}
		if text, ok := token.(xml.CharData); ok {
			all.Write(text)
			all.WriteByte('\n')
		}
	}
}
