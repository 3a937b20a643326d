package api

import (
	"bytes"
	"compress/gzip"
	"strconv"
	"strings"
	"sync"
)

// minCompressed is the length from which bodies are compressed: shorter ones fit into one packet anyway.
const minCompressed = 1400

// compressor compresses bodies. It is safe for concurrent use; the zero value is ready.
type compressor struct {
	writers sync.Pool // of *gzip.Writer, some 800 KiB each
}

// compress returns body in gzip form.
func (z *compressor) compress(body []byte) []byte {
	compressed := bytes.NewBuffer(make([]byte, 0, len(body)/4+64))
	w, ok := z.writers.Get().(*gzip.Writer)
	if ok {
		w.Reset(compressed)
	} else {
		w, _ = gzip.NewWriterLevel(compressed, gzip.BestSpeed) // a valid level
	}
	_, _ = w.Write(body) // a buffer: no error
	_ = w.Close()        // a buffer: no error
	z.writers.Put(w)
	return compressed.Bytes()
}

// acceptsGzip reports whether the lines of an Accept-Encoding header accept gzip (RFC 9110, section 12.5.3). Without a
// header, or with a malformed one, the body stays as it is.
func acceptsGzip(lines []string) bool {
	accepted := false
	for _, line := range lines {
		for item := range strings.SplitSeq(line, ",") {
			coding, parameters, _ := strings.Cut(item, ";")
			coding = strings.ToLower(strings.TrimSpace(coding))
			named := coding == "gzip" || coding == "x-gzip"
			if !named && coding != "*" {
				continue
			}
			weight := 1.0
			if name, value, ok := strings.Cut(parameters, "="); ok && strings.EqualFold(strings.TrimSpace(name), "q") {
				var err error
				if weight, err = strconv.ParseFloat(strings.TrimSpace(value), 64); err != nil {
					weight = 0
				}
			}
			if accepted = weight > 0; named {
				return accepted // gzip by name takes precedence over *
			}
		}
	}
	return accepted
}
