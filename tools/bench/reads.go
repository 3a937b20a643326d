package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/accrue/accrue/tools/load"
)

const (
	// zipped and unchanged are the numbers of connections of the two kinds of reads of /stats.
	zipped, unchanged = 8, 128
	// streams is the number of readers of /stats/stream, and changes is what they see, a second.
	streams, changes = 1000, 5000
)

// reader makes one GET after the other over one connection. It is not safe for concurrent use.
type reader struct {
	conn    net.Conn
	buffer  *bufio.Reader
	request []byte
	of      *http.Request
}

// newReader connects to a server. The connection breaks when ctx ends. The function that it returns closes it.
func newReader(ctx context.Context, server, path string, header http.Header) (*reader, func(), error) {
	of, err := http.NewRequestWithContext(ctx, http.MethodGet, server+path, http.NoBody)
	if err != nil {
		return nil, nil, fmt.Errorf("read: %w", err)
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", of.URL.Host)
	if err != nil {
		return nil, nil, fmt.Errorf("read: %w", err)
	}
	var request strings.Builder
	fmt.Fprintf(&request, "GET %s HTTP/1.1\r\nHost: %s\r\n", path, of.URL.Host)
	_ = header.Write(&request) // a Builder takes everything
	request.WriteString("\r\n")
	end := context.AfterFunc(ctx, func() { _ = conn.Close() }) // what is under way fails
	return &reader{conn, bufio.NewReader(conn), []byte(request.String()), of}, func() {
		end()
		_ = conn.Close() // it was only read
	}, nil
}

// get sends the request and returns the answer, whose body must be read to its end before the next.
func (r *reader) get() (*http.Response, error) {
	if _, err := r.conn.Write(r.request); err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	answer, err := http.ReadResponse(r.buffer, r.of)
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	return answer, nil
}

// reads makes GETs over some connections for a time and returns their number a second. Each must have the status.
func reads(ctx context.Context, connections int, duration time.Duration, server, path string, header http.Header, status int) (float64, error) {
	var answers atomic.Int64
	start := time.Now()
	reading, together := errgroup.WithContext(ctx)
	for range connections {
		reading.Go(func() error {
			r, closing, err := newReader(together, server, path, header)
			if err != nil {
				return err
			}
			defer closing()
			for time.Since(start) < duration {
				answer, err := r.get()
				if err != nil {
					return err
				}
				if _, err := io.Copy(io.Discard, answer.Body); err != nil {
					return fmt.Errorf("read: %w", err)
				}
				_ = answer.Body.Close() // read
				if answer.StatusCode != status {
					return fmt.Errorf("read %s: %s", path, answer.Status)
				}
				answers.Add(1)
			}
			return nil
		})
	}
	err := reading.Wait()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return perSecondOf(answers.Load(), time.Since(start)), err
}

// statsPath is the path of all totals.
const statsPath = "/stats"

// measureReads reads the totals of so many tags while nothing changes, from a query that has read them from the checkpoints.
func (b *bench) measureReads(ctx context.Context, s *system, tags int64) error {
	if err := s.restart(ctx, "query", &s.query); err != nil {
		return err
	}
	gzip := http.Header{"Accept-Encoding": {"gzip"}}
	etag, err := present(ctx, s.query.url, gzip)
	if err != nil {
		return err
	}
	known := http.Header{"Accept-Encoding": {"gzip"}, "If-None-Match": {etag}}
	each := b.each / 4
	b.say("/stats of %d tags: %d rounds of two turns of %v", tags, b.rounds, each)
	var whole, same []float64
	for range b.rounds {
		for _, turn := range []struct {
			rates       *[]float64
			connections int
			header      http.Header
			status      int
		}{{&whole, zipped, gzip, http.StatusOK}, {&same, unchanged, known, http.StatusNotModified}} {
			rate, err := reads(ctx, turn.connections, each, s.query.url, statsPath, turn.header, turn.status)
			if err != nil {
				return err
			}
			*turn.rates = append(*turn.rates, rate)
		}
	}
	b.add("stats_gzip_per_second", perSecond, fmt.Sprintf("`GET /stats` of %d tags, gzip, %d connections", tags, zipped), whole...)
	b.add("stats_304_per_second", perSecond, fmt.Sprintf("`GET /stats` of %d tags with `If-None-Match` while nothing changes, 304, %d connections", tags, unchanged), same...)
	return b.addResident("query_resident_bytes", fmt.Sprintf("most resident memory of query with %d tags, read like this", tags), s.query)
}

// present returns the entity tag of /stats.
func present(ctx context.Context, server string, header http.Header) (string, error) {
	r, closing, err := newReader(ctx, server, statsPath, header)
	if err != nil {
		return "", err
	}
	defer closing()
	answer, err := r.get()
	if err != nil {
		return "", err
	}
	defer answer.Body.Close() //nolint:errcheck // only its head is of interest
	if answer.StatusCode != http.StatusOK || answer.Header.Get("Etag") == "" {
		return "", fmt.Errorf("read %s: %s, with the entity tag %q", statsPath, answer.Status, answer.Header.Get("Etag"))
	}
	return answer.Header.Get("Etag"), nil
}

// measureStreams measures the CPU time of query while a thousand readers see the changes.
func (b *bench) measureStreams(ctx context.Context) error {
	// Documents of tags are not what is measured, and the emulator writes them slowly.
	return b.with(ctx, func(s *system) error {
		if _, err := s.query.cpu(); errors.Is(err, errNoProc) {
			b.say("streams_cores is left out: %v", err)
			return nil
		}
		const warmUp = 2 * time.Second
		measuring := max(2*b.each, 4*time.Second) // several windows
		b.say("streams: %d readers for %v at %d changes/s", streams, measuring, changes)
		watching, leave := context.WithCancel(ctx)
		defer leave()
		var readers errgroup.Group
		var size, seen atomic.Int64
		for i := range streams {
			readers.Go(func() error { return follow(watching, s.query.url, i == 0, &size, &seen) })
		}
		var posters errgroup.Group
		posters.Go(func() error {
			_, err := load.Measure(ctx, load.Shape{
				Ingest: s.ingest.url, Connections: 8, Batch: 50, Rate: changes, Tags: changes, InTurn: true, Duration: warmUp + measuring + time.Second,
			})
			return err
		})
		u, err := b.useOf(ctx, s.query, warmUp, measuring, &size, &seen)
		err = errors.Join(err, posters.Wait())
		leave()
		if err = errors.Join(err, readers.Wait(), ctx.Err()); err != nil {
			return err
		}
		if u.seen == 0 {
			return errors.New("the readers saw no changes")
		}
		b.add("streams_cores", cores, fmt.Sprintf("CPU of query with %d readers of `/stats/stream` at %.0f changes/s for each, %.1f MB/s for all (TAG_DOCUMENTS=off)",
			streams, u.seen, u.bytes/1e6), u.cores)
		return nil
	}, "TAG_DOCUMENTS=off")
}

// use is what a process did in a second.
type use struct{ cores, bytes, seen float64 }

// useOf returns, after a time to warm up, what a process does in a time.
func (*bench) useOf(ctx context.Context, p *process, warmUp, measuring time.Duration, size, seen *atomic.Int64) (use, error) {
	var times [2]time.Time
	var cpu [2]time.Duration
	var counts [2][2]int64
	for i, wait := range []time.Duration{warmUp, measuring} {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return use{}, ctx.Err()
		}
		used, err := p.cpu()
		if err != nil {
			return use{}, err
		}
		times[i], cpu[i], counts[i] = time.Now(), used, [2]int64{size.Load(), seen.Load()}
	}
	elapsed := times[1].Sub(times[0])
	return use{
		cores: (cpu[1] - cpu[0]).Seconds() / elapsed.Seconds(),
		bytes: perSecondOf(counts[1][0]-counts[0][0], elapsed),
		seen:  perSecondOf(counts[1][1]-counts[0][1], elapsed),
	}, nil
}

// follow reads /stats/stream until ctx ends. It adds what it reads to size, and if it looks, the changes to seen.
func follow(ctx context.Context, server string, looks bool, size, seen *atomic.Int64) error {
	r, closing, err := newReader(ctx, server, statsPath+"/stream", nil)
	if err != nil {
		return err
	}
	defer closing()
	answer, err := r.get()
	if err == nil {
		defer answer.Body.Close() //nolint:errcheck // it ends with the connection
		if answer.StatusCode != http.StatusOK {
			return fmt.Errorf("read %s/stream: %s", statsPath, answer.Status)
		}
		body := io.TeeReader(answer.Body, counter{size})
		if looks {
			err = countChanges(body, seen)
		} else {
			_, err = io.Copy(io.Discard, body)
		}
	}
	if ctx.Err() != nil {
		return nil // it was to end
	}
	return fmt.Errorf("a stream ended: %w", errors.Join(err, io.ErrUnexpectedEOF))
}

// counter counts what is written to it.
type counter struct{ bytes *atomic.Int64 }

func (c counter) Write(p []byte) (int, error) {
	c.bytes.Add(int64(len(p)))
	return len(p), nil
}

// countChanges adds the number of totals in each event of a stream.
func countChanges(stream io.Reader, seen *atomic.Int64) error {
	lines := bufio.NewReader(stream)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return err
		}
		data, ok := strings.CutPrefix(line, "data: ")
		if !ok {
			continue
		}
		var event struct{ Totals map[string]int64 }
		if err := json.Unmarshal([]byte(data), &event); err != nil {
			return fmt.Errorf("read a stream: %w", err)
		}
		seen.Add(int64(len(event.Totals)))
	}
}
