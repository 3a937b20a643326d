// Package tracecontext carries the identity of a trace: from a request's header, through a context, a message's attribute
// and a checkpoint's document, to log lines and spans. It knows the two headers and no tracing library, so that the core
// can hand traces on without one.
package tracecontext

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/trace"
)

const (
	// Attribute is the name under which a message carries its first trace (W3C Trace Context).
	Attribute = "traceparent"
	// Header is the same of a request, as net/http writes it.
	Header = "Traceparent"
	// OthersAttribute carries the message's other traces: W3C knows but one.
	OthersAttribute = "traceparents"
	// CloudHeader is Google's older form, TRACE/SPAN;o=1, which is looked at if there is no other.
	CloudHeader = "X-Cloud-Trace-Context"
	// Most is how many traces one message or one checkpoint carries: the others end there.
	Most = 8
)

// Trace is a position in a trace: the trace, the span in it that caused what comes, and whether it is followed. The zero
// value is none.
type Trace struct {
	ID      [16]byte
	Span    [8]byte
	Sampled bool
}

// Valid says whether t is a trace at all.
func (t Trace) Valid() bool { return t.ID != [16]byte{} && t.Span != [8]byte{} }

// New makes a trace of its own, which nobody follows unless sampled says so.
func New(sampled bool) Trace {
	t := Trace{Sampled: sampled}
	_, _ = rand.Read(t.ID[:]) // never fails, by its documentation since Go 1.24
	_, _ = rand.Read(t.Span[:])
	return t
}

// String is t in the form of a traceparent, of 55 bytes.
func (t Trace) String() string {
	var b [55]byte
	copy(b[:], "00-")
	hex.Encode(b[3:], t.ID[:])
	b[35] = '-'
	hex.Encode(b[36:], t.Span[:])
	copy(b[52:], "-00")
	if t.Sampled {
		b[54] = '1'
	}
	return string(b[:])
}

// Parse reads a traceparent of any version, of which later ones may be longer. It returns false for everything that is not
// one; whoever meets that goes on as if there were none.
func Parse(s string) (Trace, bool) {
	var t Trace
	if len(s) < 55 || s[2] != '-' || s[35] != '-' || s[52] != '-' || s[:2] == "ff" {
		return Trace{}, false
	}
	if len(s) > 55 && (s[:2] == "00" || s[55] != '-') {
		return Trace{}, false
	}
	var version, flags [1]byte
	if !decode(version[:], s[:2]) || !decode(t.ID[:], s[3:35]) || !decode(t.Span[:], s[36:52]) || !decode(flags[:], s[53:55]) {
		return Trace{}, false
	}
	t.Sampled = flags[0]&1 == 1
	return valid(t)
}

func valid(t Trace) (Trace, bool) {
	if !t.Valid() {
		return Trace{}, false
	}
	return t, true
}

// decode reads lower-case hexadecimal, which is all that the header allows.
func decode(into []byte, s string) bool {
	for i := range into {
		high, low := digit(s[2*i]), digit(s[2*i+1])
		if high > 15 || low > 15 {
			return false
		}
		into[i] = high<<4 | low
	}
	return true
}

func digit(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	}
	return 0xff
}

// ParseCloud reads the value of X-Cloud-Trace-Context.
func ParseCloud(s string) (Trace, bool) {
	id, rest, ok := strings.Cut(s, "/")
	span, options, _ := strings.Cut(rest, ";")
	var t Trace
	if !ok || len(id) != 32 || !decode(t.ID[:], strings.ToLower(id)) {
		return Trace{}, false
	}
	n, err := strconv.ParseUint(span, 10, 64)
	if err != nil {
		return Trace{}, false
	}
	binary.BigEndian.PutUint64(t.Span[:], n)
	t.Sampled = options == "o=1"
	return valid(t)
}

// FromHeader returns the trace of a request: that of traceparent, else that of X-Cloud-Trace-Context, else none.
func FromHeader(h http.Header) (Trace, bool) {
	if values := h[Header]; len(values) > 0 {
		if t, ok := Parse(values[0]); ok {
			return t, true
		}
	}
	if values := h[CloudHeader]; len(values) > 0 {
		return ParseCloud(values[0])
	}
	return Trace{}, false
}

// SpanContext returns t in OpenTelemetry's type.
func (t Trace) SpanContext() trace.SpanContext {
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: t.ID, SpanID: t.Span, TraceFlags: trace.TraceFlags(0).WithSampled(t.Sampled), Remote: true,
	})
}

// With returns a context that carries t: log lines of that context name it.
func With(ctx context.Context, t Trace) context.Context {
	return trace.ContextWithSpanContext(ctx, t.SpanContext())
}

// From returns the trace that ctx carries, or none.
func From(ctx context.Context) Trace {
	c := trace.SpanContextFromContext(ctx)
	return Trace{ID: c.TraceID(), Span: c.SpanID(), Sampled: c.IsSampled()}
}

// Add adds a trace to those that something carries, unless it is not followed, is among them, or they are as many as may
// be.
func Add(traces []Trace, t Trace) []Trace {
	if !t.Sampled || len(traces) >= Most {
		return traces
	}
	for i := range traces {
		if traces[i].ID == t.ID {
			return traces
		}
	}
	return append(traces, t)
}

// Attributes returns the attributes of a message that carries traces; nil for none.
func Attributes(traces []Trace) map[string]string {
	switch len(traces) {
	case 0:
		return nil
	case 1:
		return map[string]string{Attribute: traces[0].String()}
	}
	return map[string]string{Attribute: traces[0].String(), OthersAttribute: Join(traces[1:])}
}

// FromAttributes returns the traces that a message carries.
func FromAttributes(attributes map[string]string) []Trace {
	first := attributes[Attribute]
	if first == "" {
		return nil
	}
	return Split(first + separator + attributes[OthersAttribute])
}

const separator = ","

// Join writes traces into one text, and Split reads it. What is no trace, or one too many, is left out.
func Join(traces []Trace) string {
	texts := make([]string, len(traces))
	for i, t := range traces {
		texts[i] = t.String()
	}
	return strings.Join(texts, separator)
}

// Split reads what Join wrote.
func Split(s string) []Trace {
	var traces []Trace
	for s != "" && len(traces) < Most {
		var one string
		one, s, _ = strings.Cut(s, separator)
		if t, ok := Parse(one); ok {
			traces = Add(traces, t)
		}
	}
	return traces
}
