package load

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// shownDifferences is the maximum number of differences that are printed.
const shownDifferences = 20

// report is the result of a run.
type report struct {
	// Exact is true if every total has grown by what was accepted, or by up to the number of unknown increments more.
	Exact bool `json:"exact"`
	// Fault is why a run failed although its totals are exact.
	Fault       string       `json:"fault,omitempty"`
	Differences []difference `json:"differences,omitempty"`

	// Increments that were answered 202, their number and their sum; Unknown and Lost are numbers of increments that may be
	// counted, and that are not.
	Accepted int64 `json:"accepted"`
	Sum      int64 `json:"sum"`
	Unknown  int64 `json:"unknown"`
	Lost     int64 `json:"lost"`
	// Probes of freshness are among the accepted increments and requests, and not in the rate and the latency.
	Probes   int64 `json:"probes"`
	Tags     int   `json:"tags"`
	Requests int64 `json:"requests"`
	Retries  int64 `json:"retries"`

	// PostingSeconds is the time from the first post to the last answer, ExactSeconds to the first look at exact totals.
	PostingSeconds float64 `json:"posting_seconds"`
	ExactSeconds   float64 `json:"exact_seconds,omitempty"`
	// Rate is increments accepted per second of posting.
	Rate float64 `json:"rate"`
	// Latency is the time from a request, or from when it was due, to its 202.
	Latency quantiles `json:"latency"`
	// Freshness is the time from a 202 until the increment is in /stats.
	Freshness quantiles `json:"freshness"`
	// Recognition is the time from a contributor's third 202 to the event of their recognition.
	Recognition quantiles `json:"recognition"`
}

// quantiles are of durations, in milliseconds, with an error of at most 1.6 %.
type quantiles struct {
	Samples uint64  `json:"samples"`
	P50     float64 `json:"p50_ms"`
	P90     float64 `json:"p90_ms"`
	P99     float64 `json:"p99_ms"`
	Max     float64 `json:"max_ms"`
}

func quantilesOf(h *histogram) quantiles {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return quantiles{h.count, ms(h.quantile(0.5)), ms(h.quantile(0.9)), ms(h.quantile(0.99)), ms(h.max)}
}

func (q quantiles) String() string {
	if q.Samples == 0 {
		return "not measured"
	}
	ms := func(v float64) string {
		if v >= 10 {
			return fmt.Sprintf("%.0f ms", v)
		}
		return fmt.Sprintf("%.1f ms", v)
	}
	return fmt.Sprintf("p50 %s, p90 %s, p99 %s, max %s", ms(q.P50), ms(q.P90), ms(q.P99), ms(q.Max))
}

// newReport returns the report of what was posted since start, and what was seen of it.
func newReport(l *load, s *seen, start time.Time) *report {
	took := l.ended.Sub(start)
	r := &report{
		Exact: !s.exactAt.IsZero(), Differences: s.differences,
		Accepted: l.counts.Accepted.Load() + l.probes.Accepted.Load(),
		Unknown:  l.counts.Unknown.Load() + l.probes.Unknown.Load(),
		Lost:     l.counts.Lost.Load(),
		Probes:   l.probes.Accepted.Load(),
		Tags:     l.ledger.tags(),
		Requests: l.counts.Posts.Load() + l.probes.Posts.Load(), Retries: l.counts.Retries.Load() + l.probes.Retries.Load(),
		PostingSeconds: took.Seconds(), Rate: float64(l.counts.Accepted.Load()) / took.Seconds(),
		Latency: quantilesOf(&l.latency), Freshness: quantilesOf(&l.freshness.seen),
	}
	r.Sum = l.ledger.sum()
	if r.Exact {
		r.ExactSeconds = s.exactAt.Sub(start).Seconds()
	}
	var fault error
	switch {
	case s.failed != nil:
		fault = s.failed
	case r.Accepted == 0:
		fault = errors.New("nothing was accepted")
		if cause := l.cause.Load(); cause != nil {
			fault = fmt.Errorf("nothing was accepted: %w", *cause)
		}
	case r.Lost > 0 && !l.cut:
		fault = fmt.Errorf("%d increments were tried for %v and not accepted", r.Lost, patience)
	}
	if fault != nil {
		r.Fault = fault.Error()
	}
	return r
}

// ok reports whether the run succeeded.
func (r *report) ok() bool { return r.Exact && r.Fault == "" }

// print writes the report for people.
func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "accepted   %s increments (sum %s) of %s tags in %s requests, %s probes of freshness among them\n",
		grouped(r.Accepted), grouped(r.Sum), grouped(int64(r.Tags)), grouped(r.Requests), grouped(r.Probes))
	if r.Unknown+r.Lost+r.Retries > 0 {
		fmt.Fprintf(w, "trouble    %s increments possibly counted, %s not accepted, %s requests retried\n",
			grouped(r.Unknown), grouped(r.Lost), grouped(r.Retries))
	}
	fmt.Fprintf(w, "rate       %s increments/s for %.1f s\n", grouped(int64(r.Rate)), r.PostingSeconds)
	fmt.Fprintf(w, "latency    %s (post to 202)\n", r.Latency)
	fmt.Fprintf(w, "freshness  %s (202 to /stats)\n", r.Freshness)
	if r.Recognition.Samples > 0 {
		fmt.Fprintf(w, "recognized %s (third 202 to the event, of %d contributors)\n", r.Recognition, r.Recognition.Samples)
	}
	if r.Exact {
		fmt.Fprintf(w, "exact      %.1f s after the first post\n", r.ExactSeconds)
	}
	for i, d := range r.Differences {
		if i == shownDifferences {
			fmt.Fprintf(w, "  and %s more\n", grouped(int64(len(r.Differences)-i)))
			break
		}
		fmt.Fprintf(w, "  %s\n", d)
	}
	switch {
	case r.Accepted == 0 && r.Fault != "":
	case !r.Exact:
		fmt.Fprintf(w, "DIFFERENT: %s of %s tags\n", grouped(int64(len(r.Differences))), grouped(int64(r.Tags)))
	case r.Unknown > 0:
		fmt.Fprintf(w, "EXACT, except for unknown outcomes: every total has grown by what was accepted, or by up to the %s possibly counted increments more\n", grouped(r.Unknown))
	default:
		fmt.Fprintln(w, "EXACT")
	}
	if r.Fault != "" {
		fmt.Fprintf(w, "FAILED: %s\n", r.Fault)
	}
}

// grouped formats a number with a comma between thousands. It must not be negative.
func grouped(n int64) string {
	digits := fmt.Sprint(n)
	var b strings.Builder
	for i, digit := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(digit)
	}
	return b.String()
}
