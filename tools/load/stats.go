package load

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// maxStats bounds an answer of /stats: ten million tags.
const maxStats = 512 << 20

// errNotSettled is returned for totals that keep changing before anything is posted.
var errNotSettled = errors.New("the totals keep changing: another producer is posting")

// statsReader reads /stats, with its body only when it has changed. It is not safe for concurrent use.
type statsReader struct {
	transport http.RoundTripper
	request   *http.Request
	etag      string
	body      []byte
}

func newStatsReader(transport http.RoundTripper, query *url.URL) (*statsReader, error) {
	request, err := http.NewRequest(http.MethodGet, query.JoinPath("stats").String(), http.NoBody) //nolint:noctx // each read has its own
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	return &statsReader{transport: transport, request: request}, nil
}

// read reads the totals and reports whether they have changed since the previous read.
func (s *statsReader) read(ctx context.Context) (changed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, responseTimeout)
	defer cancel()
	request := s.request.Clone(ctx)
	if s.etag != "" {
		request.Header.Set("If-None-Match", s.etag)
	}
	answer, err := s.transport.RoundTrip(request)
	if err != nil {
		return false, fmt.Errorf("read the totals: %w", err)
	}
	defer answer.Body.Close() //nolint:errcheck // read
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxStats))
	switch {
	case err != nil:
		return false, fmt.Errorf("read the totals: %w", err)
	case answer.StatusCode == http.StatusNotModified:
		return false, nil
	case answer.StatusCode != http.StatusOK:
		return false, fmt.Errorf("read the totals: %s: %s: %.200s", request.URL, answer.Status, body)
	}
	changed = s.body == nil || !slices.Equal(body, s.body)
	s.etag, s.body = answer.Header.Get("ETag"), body
	return changed, nil
}

// totals returns the totals of the last read.
func (s *statsReader) totals() (map[string]int64, error) {
	totals := make(map[string]int64)
	if err := json.Unmarshal(s.body, &totals); err != nil {
		return nil, fmt.Errorf("read the totals: %w", err)
	}
	return totals, nil
}

// total returns the total of one tag in the last read, without decoding the rest.
func (s *statsReader) total(tag string) int64 {
	_, rest, _ := bytes.Cut(s.body, []byte(`"`+tag+`":`))
	n := 0
	for n < len(rest) && rest[n] >= '0' && rest[n] <= '9' {
		n++
	}
	total, _ := strconv.ParseInt(string(rest[:n]), 10, 64) // none: 0
	return total
}

// settle reads the totals until they have not changed for the given time, which is longer than a window: then no increment
// of an earlier run is under way. It gives up after limit.
func (s *statsReader) settle(ctx context.Context, still, limit time.Duration) (map[string]int64, error) {
	start := time.Now()
	for since := start; ; {
		changed, err := s.read(ctx)
		if err != nil {
			return nil, err
		}
		now := time.Now()
		if changed {
			since = now
		}
		if now.Sub(since) >= still {
			return s.totals()
		}
		if now.Sub(start) > limit {
			return nil, errNotSettled
		}
		sleep(ctx, min(still, 100*time.Millisecond))
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("wait for the totals: %w", err)
		}
	}
}
