package content

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// streamBuffer is how many bytes of a stream are written at once.
const streamBuffer = 32 << 10

// Stream answers a conditional GET or HEAD request with what write writes, in bounded memory. Write is called twice, and must write
// the same: first for the entity tag alone. It may stop when a write fails: the client is gone. The caller sets the headers
// Content-Type and Cache-Control before.
func Stream(w http.ResponseWriter, r *http.Request, write func(io.Writer)) {
	digest := xxhash.New()
	write(digest)
	etag := fmt.Sprintf(`"%016x"`, digest.Sum64())
	zipped := acceptsGzip(r.Header.Values("Accept-Encoding"))
	h := w.Header()
	h.Add("Vary", "Accept-Encoding")
	if zipped {
		etag = "W/" + etag // a strong one identifies the bytes of one encoding
	}
	h.Set("ETag", etag)
	if matches(r.Header.Values("If-None-Match"), etag) {
		h.Del("Content-Type")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	if zipped {
		h.Set("Content-Encoding", "gzip")
	}
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	body := io.Writer(w)
	if zipped {
		z := fast.writer(w)
		defer fast.writers.Put(z)
		defer z.Close() //nolint:errcheck // a client that is gone needs no answer
		body = z
	}
	buffered := bufio.NewWriterSize(body, streamBuffer)
	write(buffered)
	_ = buffered.Flush() // as above
}

// matches reports whether the lines of If-None-Match have an entity tag, by the weak comparison (RFC 9110, section 13.1.2).
func matches(lines []string, etag string) bool {
	etag = strings.TrimPrefix(etag, "W/")
	for _, line := range lines {
		for item := range strings.SplitSeq(line, ",") {
			if item = strings.TrimSpace(item); item == "*" || strings.TrimPrefix(item, "W/") == etag {
				return true
			}
		}
	}
	return false
}
