// Package board is the page for people at / of query: what the API answers, drawn. The page is in page/ as browsers take it,
// without a build. It makes requests to this service alone, by relative paths, so that it works behind a path prefix. Its
// logic is tested with Node, in test/.
package board

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html"
	"io/fs"
	"net/http"
	"path"
	"strings"

	"github.com/accrue/accrue/pkg/content"
	"github.com/accrue/accrue/pkg/problem"
	"github.com/accrue/accrue/pkg/version"
)

// Assets is where the parts of the page are: Assets/{release}/{file}.
const Assets = "/board"

// policy lets the page load its parts and call the API, and nothing else: an id or a name is never more than text.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

const (
	// index is the page itself.
	index = "index.html"
	// releasePlaceholder and versionPlaceholder stand in the page for the release of the board and the version of the service.
	releasePlaceholder, versionPlaceholder = "{release}", "{version}"
)

//go:embed page
var files embed.FS

// file is one part of the page, as it is served.
type file struct {
	body        *content.Body
	contentType string
}

// Board answers requests for the page and its parts.
type Board struct {
	files map[string]file
	// release identifies the contents of all parts. It is in their paths, so that browsers can cache them forever.
	release string
}

// New returns the board.
func New() *Board {
	bodies := make(map[string]string)
	all := sha256.New()
	_ = fs.WalkDir(files, "page", func(name string, entry fs.DirEntry, err error) error { // embedded: no error
		if err != nil || entry.IsDir() {
			return err
		}
		body, err := files.ReadFile(name)
		bodies[path.Base(name)] = string(body)
		fmt.Fprintf(all, "%s %d\n%s", name, len(body), body)
		return err
	})
	b := &Board{files: make(map[string]file), release: hex.EncodeToString(all.Sum(nil))[:16]}
	for name, body := range bodies {
		if name == index {
			body = strings.NewReplacer(releasePlaceholder, b.release, versionPlaceholder, html.EscapeString(version.Current().Version)).Replace(body)
		}
		b.files[name] = file{content.Static([]byte(body)), contentType(name)}
	}
	return b
}

// contentType returns the media type of a file, independently of the machine's configuration.
func contentType(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	default:
		return "application/octet-stream"
	}
}

// ServeHTTP answers GET and HEAD of / and of paths below Assets. Browsers revalidate the page each time, and cache its parts
// per release. During an update a page may request a part from an instance of another release, which then answers with
// its own part, not to be cached.
func (b *Board) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, caching := index, "no-cache"
	if r.URL.Path != "/" {
		release, part, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, Assets+"/"), "/")
		name = part
		if release == b.release {
			caching = "public, max-age=31536000, immutable"
		}
	}
	f, ok := b.files[name]
	if !ok || (name == index && r.URL.Path != "/") {
		problem.New(http.StatusNotFound, problem.NoPath).Write(w)
		return
	}
	h := w.Header()
	h.Set("Content-Type", f.contentType)
	h.Set("Cache-Control", caching)
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	f.body.Serve(w, r)
}
