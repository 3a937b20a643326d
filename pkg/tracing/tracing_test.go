package tracing

import (
	"math/rand/v2"
	"net/http"
	"testing"

	"go.opentelemetry.io/otel/trace"
	"pgregory.net/rapid"
)

// newTrace returns a random trace context.
func newTrace(sampled bool) trace.SpanContext {
	config := trace.SpanContextConfig{TraceFlags: trace.TraceFlags(0).WithSampled(sampled), Remote: true}
	for i := range config.TraceID {
		config.TraceID[i] = byte(1 + rand.IntN(255))
	}
	config.SpanID = trace.SpanID{1}
	return trace.NewSpanContext(config)
}

func TestFromHeader(t *testing.T) {
	t.Parallel()
	const (
		parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
		cloud  = "105445aa7843bc8bf206b12000100000/1;o=1"
	)
	for name, tc := range map[string]struct{ traceparent, cloud, want string }{
		"traceparent comes first":                {parent, cloud, parent},
		"traceparent, not sampled":               {parent[:53] + "00", "", parent[:53] + "00"},
		"traceparent of a later version":         {"cc" + parent[2:] + "-more", "", parent},
		"Google's form":                          {"", cloud, "00-105445aa7843bc8bf206b12000100000-0000000000000001-01"},
		"Google's form, not sampled":             {"", "105445aa7843bc8bf206b12000100000/255;o=0", "00-105445aa7843bc8bf206b12000100000-00000000000000ff-00"},
		"Google's form, without options":         {"", "105445AA7843bc8bf206b12000100000/255", "00-105445aa7843bc8bf206b12000100000-00000000000000ff-00"},
		"a malformed traceparent, Google's form": {"x", cloud, "00-105445aa7843bc8bf206b12000100000-0000000000000001-01"},
		"Google's form, without a span":          {"", "105445aa7843bc8bf206b12000100000", ""},
		"Google's form, with a malformed span":   {"", "105445aa7843bc8bf206b12000100000/a", ""},
		"Google's form, with a short trace":      {"", "105445/1;o=1", ""},
		"an empty trace":                         {"00-00000000000000000000000000000000-00f067aa0ba902b7-01", "", ""},
		"neither":                                {"", "", ""},
	} {
		h := http.Header{}
		if tc.traceparent != "" {
			h.Set(header, tc.traceparent)
		}
		if tc.cloud != "" {
			h.Set(cloudHeader, tc.cloud)
		}
		got := FromHeader(h)
		if got.IsValid() != (tc.want != "") || (got.IsValid() && format(got) != tc.want) {
			t.Errorf("%s: FromHeader() = %s, want %q", name, format(got), tc.want)
		}
	}
}

func TestTracesComeBackFromAttributes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var traces []trace.SpanContext
		for range rapid.IntRange(0, 2*MaxTraces).Draw(t, "n") {
			one := newTrace(rapid.Bool().Draw(t, "sampled"))
			before := len(traces)
			traces = Add(traces, one)
			if grown := len(traces) > before; grown != (one.IsSampled() && before < MaxTraces) {
				t.Fatalf("Add() of %v to %d: grown = %v", one, before, grown)
			}
			if again := Add(traces, one); len(again) != len(traces) {
				t.Fatal("Add() added a trace twice")
			}
		}
		attributes := Attributes(traces)
		for name, value := range attributes {
			if len(value) > 1024 {
				t.Fatalf("attribute %s has %d bytes, Pub/Sub allows 1,024", name, len(value))
			}
		}
		got := FromAttributes(attributes)
		if len(got) != len(traces) || len(Links(got)) != len(traces) {
			t.Fatalf("FromAttributes() = %v, want %v", got, traces)
		}
		for i := range got {
			if !got[i].Equal(traces[i]) {
				t.Fatalf("FromAttributes() = %v, want %v", got, traces)
			}
		}
	})
}

func FuzzAttributes(f *testing.F) {
	f.Add("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "x,,")
	f.Fuzz(func(t *testing.T, first, others string) {
		traces := FromAttributes(map[string]string{attribute: first, othersAttribute: others})
		if len(traces) > MaxTraces {
			t.Fatalf("%d traces", len(traces))
		}
		for i := range traces {
			if !traces[i].IsSampled() || !parse(format(traces[i])).Equal(traces[i]) {
				t.Fatalf("trace %v is not sampled or does not come back", traces[i])
			}
		}
		if cloud := parseCloud(first); cloud.IsValid() && parse(format(cloud)).TraceID() != cloud.TraceID() {
			t.Fatalf("parseCloud(%q) = %v", first, cloud)
		}
	})
}
