package api

import (
	"bytes"
	"compress/gzip"
	"strconv"
	"strings"
	"sync"
)

// minCompressed is the least length of a body that is worth compressing: below it, it fits into one packet anyhow.
const minCompressed = 1400

// compressor makes the gzip form of bodies. Its methods may be called at the same time; the zero value is ready.
type compressor struct {
	writers sync.Pool // of *gzip.Writer, some 800 KiB each
}

// compress returns body as a gzip file.
func (z *compressor) compress(body []byte) []byte {
	compressed := bytes.NewBuffer(make([]byte, 0, len(body)/4+64))
	w, ok := z.writers.Get().(*gzip.Writer)
	if ok {
		w.Reset(compressed)
	} else {
		w, _ = gzip.NewWriterLevel(compressed, gzip.BestSpeed) // the level is a known one
	}
	_, _ = w.Write(body) // into memory: it cannot fail
	_ = w.Close()        // likewise
	z.writers.Put(w)
	return compressed.Bytes()
}

// acceptsGzip says whether the lines of a header Accept-Encoding ask for gzip (RFC 9110, section 12.5.3). A client that
// says nothing gets the body as it is, and so does one that says it wrong.
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
				return accepted // what is said of gzip itself counts more than what is said of everything
			}
		}
	}
	return accepted
}
