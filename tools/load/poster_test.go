package load

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// scriptedServer gives one answer after the other, and then repeats the last.
type scriptedServer struct {
	script []reply
	at     []time.Duration // when it was asked
	start  time.Time
}

type reply struct {
	answer
	err error
}

func (s *scriptedServer) post([]byte) (answer, error) {
	r := s.script[min(len(s.at), len(s.script)-1)]
	s.at = append(s.at, time.Since(s.start))
	return r.answer, r.err
}

func says(status int, retryAfter time.Duration, body string) reply {
	return reply{answer: answer{status, retryAfter, []byte(body)}}
}

func TestPost(t *testing.T) {
	t.Parallel()
	const none = -1
	ok := says(202, none, `{"accepted":1}`)
	full := says(503, 2*time.Second, `{"detail":"Too much is waiting. Nothing was counted."}`)
	broken := reply{err: errors.New("connection reset")}
	for name, tc := range map[string]struct {
		script []reply
		// account is accepted, unknown, lost, retries.
		account string
		at      []time.Duration
		err     error
	}{
		"accepted":                        {[]reply{ok}, "1 0 0 0", []time.Duration{0}, nil},
		"accepted, the answer's end lost": {[]reply{{answer: ok.answer, err: broken.err}}, "1 0 0 0", []time.Duration{0}, nil},
		"full, then accepted":             {[]reply{full, full, ok}, "1 0 0 2", []time.Duration{0, 2 * time.Second, 4 * time.Second}, nil},
		"not there, then accepted":        {[]reply{{err: fmt.Errorf("dial: %w", errNotSent)}, ok}, "1 0 0 1", []time.Duration{0, time.Second}, nil},
		"publish failed":                  {[]reply{says(503, time.Second, "Whether this is counted is not known.")}, "0 1 0 0", []time.Duration{0}, nil},
		"failed":                          {[]reply{says(500, none, "")}, "0 1 0 0", []time.Duration{0}, nil},
		"no answer":                       {[]reply{broken}, "0 1 0 0", []time.Duration{0}, nil},
		"answer cut":                      {[]reply{{answer: full.answer, err: broken.err}}, "0 1 0 0", []time.Duration{0}, nil},
		"refused":                         {[]reply{says(422, none, "value must be 1 to 9")}, "0 0 1 0", []time.Duration{0}, errRefused},
		"wrong address":                   {[]reply{says(404, none, "")}, "0 0 1 0", []time.Duration{0}, errRefused},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				server := &scriptedServer{script: tc.script, start: time.Now()}
				p := &poster{server: server, counts: &counts{}, cause: new(atomic.Pointer[error])}
				foo := &tally{name: "foo"}
				err := p.post(t.Context(), &batch{entries: []entry{{tally: foo, value: 7}}}, time.Now())
				if !errors.Is(err, tc.err) {
					t.Errorf("post() = %v, want %v", err, tc.err)
				}
				c := p.counts
				account := fmt.Sprint(c.Accepted.Load(), c.Unknown.Load(), c.Lost.Load(), c.Retries.Load())
				if account != tc.account || !slices.Equal(server.at, tc.at) {
					t.Errorf("account %s after posts at %v, want %s at %v", account, server.at, tc.account, tc.at)
				}
				if got, want := foo.accepted.Load(), 7*c.Accepted.Load(); got != want {
					t.Errorf("tally of accepted = %d, want %d", got, want)
				}
				if got, want := foo.unknown.Load(), 7*c.Unknown.Load(); got != want {
					t.Errorf("tally of unknown = %d, want %d", got, want)
				}
				if got, want := p.latency.count, uint64(c.Accepted.Load()); got != want {
					t.Errorf("%d latencies, want %d", got, want)
				}
			})
		})
	}
}

func TestPostGivesUp(t *testing.T) {
	t.Parallel()
	full := says(503, 3*time.Second, "Nothing was counted.")
	for name, limit := range map[string]time.Duration{"when the run ends": 10 * time.Second, "after a minute": time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				defer cancel()
				start := time.Now()
				p := &poster{server: &scriptedServer{script: []reply{full}}, counts: &counts{}, cause: new(atomic.Pointer[error])}
				if err := p.post(ctx, &batch{entries: make([]entry, 5)}, start); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(start); took > min(limit, patience)+3*time.Second {
					t.Errorf("gave up after %v", took)
				}
				if got := p.counts.Lost.Load(); got != 5 {
					t.Errorf("lost %d, want 5", got)
				}
			})
		})
	}
}

func TestPacerSpreadsIncrementsEvenlyAndCatchesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		p := &pacer{start: start, rate: 100}
		for i := range 10 {
			due := p.wait(t.Context(), 5)
			if want := time.Duration(i) * 50 * time.Millisecond; due.Sub(start) != want || time.Since(start) != want {
				t.Errorf("batch %d is due at %v and released at %v, want %v", i, due.Sub(start), time.Since(start), want)
			}
		}
		time.Sleep(10 * time.Second) // all connections are busy
		if due := p.wait(t.Context(), 5); due.Sub(start) != 500*time.Millisecond {
			t.Errorf("the late batch was due at %v, want 500ms", due.Sub(start))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		p = &pacer{start: time.Now(), rate: 0.001}
		p.wait(ctx, 1)
		p.wait(ctx, 1)
		if took := time.Since(start); took > 11*time.Second {
			t.Errorf("waited until %v although the run was over", took)
		}
	})
}
