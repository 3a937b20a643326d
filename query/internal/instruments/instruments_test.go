package instruments_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"

	"github.com/accrue/accrue/pkg/logging"
	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/pkg/telemetry"
	"github.com/accrue/accrue/pkg/telemetry/telemetrytest"
	"github.com/accrue/accrue/pkg/tracecontext"
	"github.com/accrue/accrue/query/internal/instruments"
	"github.com/accrue/accrue/query/internal/recognition"
	"github.com/accrue/accrue/query/internal/view"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type stillView struct{}

func (stillView) Age() time.Duration { return 1500 * time.Millisecond }

type stillRecognizer struct{}

func (stillRecognizer) Counts() recognition.Counts {
	return recognition.Counts{Recognized: 5, Published: 4}
}
func (stillRecognizer) OldestPending() time.Duration { return 3 * time.Second }

// rig is the instruments with what they write.
type rig struct {
	*instruments.Reads
	t        *testing.T
	measured *telemetry.Telemetry
	received *telemetrytest.Receiver
	log      *bytes.Buffer
	revision time.Time
}

// newRig makes instruments that export spans: tests that have one are not parallel, since the exporter reads the
// environment.
func newRig(t *testing.T, ratio float64) *rig {
	t.Helper()
	received, endpoint := telemetrytest.StartHTTP(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
	r := &rig{t: t, received: received, log: new(bytes.Buffer), revision: time.Now()}
	log := logging.New(r.log, "query", map[string]string{"GOOGLE_CLOUD_PROJECT": "p"})
	var err error
	if r.measured, err = telemetry.New(t.Context(), "query", telemetry.Settings{Export: true, Ratio: ratio}, log); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // once more, where the test has asked for spans
		if err := r.measured.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	r.Reads, err = instruments.New(r.measured, log, stillView{}, stillRecognizer{}, func() int64 { return 2 })
	if err != nil {
		t.Fatal(err)
	}
	r.read() // what was there before tells nothing
	return r
}

// read is a read that finds partition 7 changed, and carrying traces.
func (r *rig) read(traces ...tracecontext.Trace) {
	r.revision = r.revision.Add(time.Millisecond)
	now := time.Now()
	r.Refreshed(view.Read{Began: now, Partitions: []store.PartitionTotals{{
		Partition: 7, Revision: store.Revision{UpdateTime: r.revision},
		UpdatedAt: now.Add(-200 * time.Millisecond), AcceptedAt: now.Add(-1300 * time.Millisecond), Traces: traces,
	}}})
}

// spans ends the export and returns the spans of a name.
func (r *rig) spans(name string) []*v1.Span {
	r.t.Helper()
	if err := r.measured.Shutdown(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	return r.received.Named(name)
}

// lines are the traces of the lines of a message.
func (r *rig) lines(message string) (traces []string) {
	r.t.Helper()
	for line := range strings.Lines(r.log.String()) {
		var l struct {
			Message string
			Trace   string `json:"logging.googleapis.com/trace"`
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			r.t.Fatal(err)
		}
		if l.Message == message {
			traces = append(traces, strings.TrimPrefix(l.Trace, "projects/p/traces/"))
		}
	}
	return traces
}

func (r *rig) exposed() string {
	answer := httptest.NewRecorder()
	r.measured.Handler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, telemetry.MetricsPath, http.NoBody))
	return answer.Body.String()
}

func id(t tracecontext.Trace) string { return hex.EncodeToString(t.ID[:]) }

// linked says whether a span is a child of the first trace and linked to all.
func linked(s *v1.Span, traces ...tracecontext.Trace) bool {
	var links []string
	for _, link := range s.GetLinks() {
		links = append(links, hex.EncodeToString(link.GetTraceId()))
	}
	var want []string
	for _, one := range traces {
		want = append(want, id(one))
	}
	return slices.Equal(links, want) && slices.Equal(s.GetParentSpanId(), traces[0].Span[:]) && slices.Equal(s.GetTraceId(), traces[0].ID[:])
}

// A checkpoint carries a trace for some seconds. It comes into view once.
func TestATraceComesIntoViewOnce(t *testing.T) {
	r := newRig(t, 0)
	first, second := tracecontext.New(true), tracecontext.New(true)
	r.read(first)
	r.read(first, second)
	r.read(first, second)
	if got, want := r.lines("in view"), []string{id(first), id(second)}; !slices.Equal(got, want) {
		t.Errorf("in view: %v, want %v", got, want)
	}
	spans := r.spans("refresh")
	if len(spans) != 2 || !linked(spans[0], first) || !linked(spans[1], second) {
		t.Errorf("spans = %v", spans)
	}
}

// Recognition looks at contributors by itself: what led to a pass may come into view a moment after it.
func TestAPassIsLinkedToWhatMayHaveLedToIt(t *testing.T) {
	r := newRig(t, 0)
	earlier, later, unrelated := tracecontext.New(true), tracecontext.New(true), tracecontext.New(true)
	r.read(earlier)
	began := time.Now().Add(-50 * time.Millisecond)
	r.Recognized(recognition.Pass{Began: began, Ended: time.Now(), Tier: 3, Made: 2, Published: true, Err: errors.New("one failed")})
	if got := r.lines("recognized contributors"); len(got) != 0 {
		t.Errorf("before the next read: %v", got)
	}
	r.read(later)
	r.read(unrelated)
	if got, want := r.lines("recognized contributors"), []string{id(earlier), id(later)}; !slices.Equal(got, want) {
		t.Errorf("recognized: %v, want %v", got, want)
	}
	spans := r.spans("recognize")
	if len(spans) != 1 || !linked(spans[0], earlier, later) {
		t.Fatalf("spans = %v", spans)
	}
	if s := spans[0]; s.GetStartTimeUnixNano() != uint64(began.UnixNano()) || s.GetEndTimeUnixNano() < s.GetStartTimeUnixNano()+50e6 ||
		s.GetStatus().GetCode() != v1.Status_STATUS_CODE_ERROR {
		t.Errorf("span = %v", s)
	}
}

// Reads and passes that no followed request led to are followed by the ratio, those that fail too.
func TestWhatNobodyAskedForIsFollowedByTheRatio(t *testing.T) {
	r := newRig(t, 1)
	r.Refreshed(view.Read{Began: time.Now(), Err: errors.New("down")})
	r.Recognized(recognition.Pass{Began: time.Now(), Ended: time.Now(), Tier: 3, Made: 1, Published: true})
	r.read()
	refreshes := r.spans("refresh")
	if len(refreshes) != 3 || refreshes[1].GetStatus().GetCode() != v1.Status_STATUS_CODE_ERROR || len(refreshes[2].GetLinks()) != 0 {
		t.Errorf("refreshes = %v", refreshes)
	}
	if recognized := r.received.Named("recognize"); len(recognized) != 1 || len(recognized[0].GetParentSpanId()) != 0 {
		t.Errorf("recognized = %v", recognized)
	}
}

func TestLinesOfTracesAreBounded(t *testing.T) {
	r := newRig(t, 0)
	for range 100 {
		r.read(tracecontext.New(true))
	}
	if got := len(r.lines("in view")); got < 5 || got > 7 {
		t.Errorf("%d lines at once, want 5", got)
	}
}

// Freshness is measured from the first acceptance to the view, and not for what was there before.
func TestFreshnessIsMeasured(t *testing.T) {
	r := newRig(t, 0)
	r.read()
	r.Refreshed(view.Read{Began: time.Now(), Err: errors.New("down")})
	exposed := r.exposed()
	for _, want := range []string{
		"\naccrue_freshness_seconds_count 1\n", "\naccrue_freshness_seconds_bucket{le=\"1.25\"} 0\n", "\naccrue_freshness_seconds_bucket{le=\"1.5\"} 1\n",
		"\naccrue_freshness_viewed_seconds_bucket{le=\"0.1\"} 0\n", "\naccrue_freshness_viewed_seconds_bucket{le=\"0.25\"} 1\n",
		"\naccrue_view_refresh_duration_seconds_count{result=\"failed\"} 1\n", "\naccrue_view_refresh_duration_seconds_count{result=\"ok\"} 2\n",
		"\naccrue_view_age_seconds 1.5\n", "\naccrue_recognitions_pending_age_seconds 3\n", "\naccrue_stream_readers 2\n",
		"\naccrue_recognitions_created_total 5\n", "\naccrue_recognitions_sent_total 4\n",
	} {
		if !strings.Contains(exposed, want) {
			t.Errorf("the exposition lacks %q:\n%s", want, exposed)
		}
	}
}
