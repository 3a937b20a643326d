// Package tracing carries trace contexts from requests to messages, in the types of OpenTelemetry. A context holds one as
// trace.ContextWithSpanContext puts it there; log lines and spans of that context belong to it.
package tracing

import (
	"context"
	"encoding/binary"
	"net/http"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// MaxTraces bounds the traces that one message carries. Further traces end at ingest.
const MaxTraces = 8

const (
	// attribute and header hold the first trace of a message and the trace of a request (W3C Trace Context).
	attribute = "traceparent"
	header    = "Traceparent"
	// othersAttribute holds the other traces of a message, separated by commas: W3C has no form for them.
	othersAttribute = "traceparents"
	// cloudHeader is Google's older form, TRACE/SPAN;o=1. It is read if there is no traceparent.
	cloudHeader = "X-Cloud-Trace-Context"
)

// FromHeader returns the trace context of a request: that of traceparent, else that of X-Cloud-Trace-Context, else an
// invalid one.
func FromHeader(h http.Header) trace.SpanContext {
	if values := h[header]; len(values) > 0 {
		if t := parse(values[0]); t.IsValid() {
			return t
		}
	}
	if values := h[cloudHeader]; len(values) > 0 {
		return parseCloud(values[0])
	}
	return trace.SpanContext{}
}

// parse reads a traceparent. The result is invalid if text is.
func parse(text string) trace.SpanContext {
	ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{attribute: text})
	return trace.SpanContextFromContext(ctx)
}

func format(t trace.SpanContext) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(trace.ContextWithSpanContext(context.Background(), t), carrier)
	return carrier[attribute]
}

func parseCloud(text string) trace.SpanContext {
	id, rest, _ := strings.Cut(text, "/")
	span, options, _ := strings.Cut(rest, ";")
	traceID, err := trace.TraceIDFromHex(strings.ToLower(id))
	if err != nil {
		return trace.SpanContext{}
	}
	number, err := strconv.ParseUint(span, 10, 64)
	if err != nil {
		return trace.SpanContext{}
	}
	config := trace.SpanContextConfig{TraceID: traceID, TraceFlags: trace.TraceFlags(0).WithSampled(options == "o=1"), Remote: true}
	binary.BigEndian.PutUint64(config.SpanID[:], number)
	return trace.NewSpanContext(config)
}

// Add appends t to traces unless it is not sampled, its trace is among them, or MaxTraces is reached.
func Add(traces []trace.SpanContext, t trace.SpanContext) []trace.SpanContext {
	if !t.IsSampled() || len(traces) >= MaxTraces {
		return traces
	}
	for i := range traces {
		if traces[i].TraceID() == t.TraceID() {
			return traces
		}
	}
	return append(traces, t)
}

// Attributes returns the attributes of a message that carries traces, or nil if there are none.
func Attributes(traces []trace.SpanContext) map[string]string {
	if len(traces) == 0 {
		return nil
	}
	attributes := map[string]string{attribute: format(traces[0])}
	if len(traces) > 1 {
		others := make([]string, len(traces)-1)
		for i, t := range traces[1:] {
			others[i] = format(t)
		}
		attributes[othersAttribute] = strings.Join(others, ",")
	}
	return attributes
}

// FromAttributes returns the sampled traces that a message carries, MaxTraces at most. It skips invalid ones.
func FromAttributes(attributes map[string]string) []trace.SpanContext {
	first := attributes[attribute]
	if first == "" {
		return nil
	}
	var traces []trace.SpanContext
	for text := range strings.SplitSeq(first+","+attributes[othersAttribute], ",") {
		if traces = Add(traces, parse(text)); len(traces) == MaxTraces {
			break
		}
	}
	return traces
}

// Links returns links to traces, for a span of work that several of them share.
func Links(traces []trace.SpanContext) []trace.Link {
	links := make([]trace.Link, len(traces))
	for i, t := range traces {
		links[i] = trace.Link{SpanContext: t}
	}
	return links
}
