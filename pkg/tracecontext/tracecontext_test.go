package tracecontext_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/accrue/accrue/pkg/tracecontext"
)

const (
	id     = "4bf92f3577b34da6a3ce929d0e0e4736"
	span   = "00f067aa0ba902b7"
	parent = "00-" + id + "-" + span + "-01"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		in      string
		ok      bool
		sampled bool
	}{
		"sampled":                         {parent, true, true},
		"not sampled":                     {"00-" + id + "-" + span + "-00", true, false},
		"another flag beside":             {"00-" + id + "-" + span + "-03", true, true},
		"a later version":                 {"cc-" + id + "-" + span + "-01-what-comes", true, true},
		"the first version, longer":       {parent + "-x", false, false},
		"a later version, run on":         {"cc-" + id + "-" + span + "-01x", false, false},
		"the version that is forbidden":   {"ff-" + id + "-" + span + "-01", false, false},
		"capitals":                        {"00-" + strings.ToUpper(id) + "-" + span + "-01", false, false},
		"no trace":                        {"00-" + strings.Repeat("0", 32) + "-" + span + "-01", false, false},
		"no span":                         {"00-" + id + "-" + strings.Repeat("0", 16) + "-01", false, false},
		"a broken flag":                   {"00-" + id + "-" + span + "-0g", false, false},
		"cut off":                         {parent[:54], false, false},
		"nothing":                         {"", false, false},
		"dashes where they do not belong": {strings.Replace(parent, "-", "_", 1), false, false},
	} {
		got, ok := tracecontext.Parse(tc.in)
		if ok != tc.ok || got.Sampled != tc.sampled {
			t.Errorf("%s: Parse(%q) = %v, %v", name, tc.in, got, ok)
		}
	}
}

func TestFromHeader(t *testing.T) {
	t.Parallel()
	const cloud = "105445aa7843bc8bf206b12000100000/1;o=1"
	for name, tc := range map[string]struct {
		traceparent, cloud string
		want               string
	}{
		"traceparent comes first":               {parent, cloud, parent},
		"Google's form":                         {"", cloud, "00-105445aa7843bc8bf206b12000100000-0000000000000001-01"},
		"Google's form, not sampled":            {"", "105445aa7843bc8bf206b12000100000/255;o=0", "00-105445aa7843bc8bf206b12000100000-00000000000000ff-00"},
		"Google's form, without options":        {"", "105445AA7843bc8bf206b12000100000/255", "00-105445aa7843bc8bf206b12000100000-00000000000000ff-00"},
		"a broken traceparent, and Google's":    {"x", cloud, "00-105445aa7843bc8bf206b12000100000-0000000000000001-01"},
		"Google's form, without a span":         {"", "105445aa7843bc8bf206b12000100000", ""},
		"Google's form, with a span of letters": {"", "105445aa7843bc8bf206b12000100000/a", ""},
		"Google's form, too short":              {"", "105445/1;o=1", ""},
		"neither":                               {"", "", ""},
	} {
		h := http.Header{}
		if tc.traceparent != "" {
			h.Set(tracecontext.Attribute, tc.traceparent)
		}
		if tc.cloud != "" {
			h.Set(tracecontext.CloudHeader, tc.cloud)
		}
		got, ok := tracecontext.FromHeader(h)
		if ok != (tc.want != "") || (ok && got.String() != tc.want) {
			t.Errorf("%s: FromHeader() = %s, %v, want %q", name, got, ok, tc.want)
		}
	}
}

func TestContext(t *testing.T) {
	t.Parallel()
	want := tracecontext.New(true)
	if got := tracecontext.From(tracecontext.With(t.Context(), want)); got != want {
		t.Errorf("From() = %v, want %v", got, want)
	}
	if got := tracecontext.From(t.Context()); got.Valid() {
		t.Errorf("From() = %v of a context without one", got)
	}
}

// What is joined is split again; what is not followed, doubled, or too many is left out.
func TestCarriedTracesComeBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var traces []tracecontext.Trace
		for range rapid.IntRange(0, 2*tracecontext.Most).Draw(t, "n") {
			one := tracecontext.New(rapid.Bool().Draw(t, "sampled"))
			before := len(traces)
			traces = tracecontext.Add(traces, one)
			if grown := len(traces) > before; grown != (one.Sampled && before < tracecontext.Most) {
				t.Fatalf("Add() of %v to %d: grown = %v", one, before, grown)
			}
			if again := tracecontext.Add(traces, one); len(again) != len(traces) {
				t.Fatalf("Add() took a trace twice")
			}
		}
		attributes := tracecontext.Attributes(traces)
		for name, value := range attributes {
			if len(value) > 1024 {
				t.Fatalf("attribute %s has %d bytes and may have 1,024", name, len(value))
			}
		}
		if first, ok := tracecontext.Parse(attributes["traceparent"]); len(traces) > 0 && (!ok || first != traces[0]) {
			t.Fatalf("traceparent = %q, want that of %v alone", attributes["traceparent"], traces[0])
		}
		if got := tracecontext.FromAttributes(attributes); !slices.Equal(got, traces) {
			t.Fatalf("FromAttributes(Attributes()) = %v, want %v", got, traces)
		}
		if got := tracecontext.Split(tracecontext.Join(traces)); !slices.Equal(got, traces) {
			t.Fatalf("Split(Join()) = %v, want %v", got, traces)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add(parent)
	f.Add("cc-" + id + "-" + span + "-01-x")
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := tracecontext.Parse(s)
		if ok != got.Valid() {
			t.Fatalf("Parse(%q) = %v, %v", s, got, ok)
		}
		if again, _ := tracecontext.Parse(got.String()); ok && again != got {
			t.Fatalf("Parse(%q) = %v, and of its own form %v", s, got, again)
		}
		tracecontext.Split(s)
		tracecontext.ParseCloud(s)
	})
}
