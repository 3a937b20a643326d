package bench

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMedian(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{7}, 7},
		{[]float64{9, 1}, 9},
		{[]float64{9, 1, 5}, 5},
		{[]float64{4, 3, 2, 1}, 3},
	} {
		given := slices.Clone(tc.values)
		if got := median(tc.values); got != tc.want {
			t.Errorf("median(%v) = %v, want %v", tc.values, got, tc.want)
		}
		if !slices.Equal(given, tc.values) {
			t.Errorf("median has changed the order of %v", given)
		}
	}
}

func TestRowsOfATable(t *testing.T) {
	t.Parallel()
	var of table
	of.add("posts_per_second", perSecond, "posts", 30, 10, 20)
	of.add("p99_seconds", seconds, "p99", 1.5)
	got, err := json.Marshal(of.rows)
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"key":"posts_per_second","what":"posts","unit":"/s","median":20,"least":10,"most":30},` +
		`{"key":"p99_seconds","what":"p99","unit":"s","median":1.5,"least":1.5,"most":1.5}]`
	if string(got) != want {
		t.Errorf("rows are\n%s, want\n%s", got, want)
	}
	var printed strings.Builder
	of.print(&printed)
	if want := "| what | median | least to most |\n|---|--:|--:|\n| posts | 20/s | 10/s to 30/s |\n| p99 | 1500 ms |  |\n"; printed.String() != want {
		t.Errorf("the table is\n%s, want\n%s", printed.String(), want)
	}
}

func TestShow(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		value float64
		unit  string
		want  string
	}{
		{0.0177, seconds, "17.7 ms"},
		{0.916, seconds, "916 ms"},
		{17.25, seconds, "17.2 s"},
		{36 << 20, bytes, "36 MiB"},
		{22591.4, perSecond, "22591/s"},
		{18.617, dollars, "$18.62"},
		{0.456, cores, "0.46 cores"},
		{0.478, ratio, "0.48"},
		{428.4, ratio, "428"},
	} {
		if got := show(tc.value, tc.unit); got != tc.want {
			t.Errorf("show(%v, %q) = %q, want %q", tc.value, tc.unit, got, tc.want)
		}
	}
}

func TestRatesAndRatios(t *testing.T) {
	t.Parallel()
	if got := perSecondOf(500, 250*time.Millisecond); got != 2000 {
		t.Errorf("500 in 250 ms are %v a second", got)
	}
	if got := ratios([]float64{1, 9}, []float64{2, 3}); !slices.Equal(got, []float64{0.5, 3}) {
		t.Errorf("the ratios are %v", got)
	}
}

func TestIncrementsPerWrite(t *testing.T) {
	t.Parallel()
	c := counted{Increments: 1000, Documents: 10, CommitsByAge: 7, CommitsBySize: 2, CommitsByDrain: 1}
	if c.writes() != 20 || c.perWrite() != 50 {
		t.Errorf("%d writes, of %v increments, want 20 of 50", c.writes(), c.perWrite())
	}
	if got := (counted{}).perWrite(); got != 0 {
		t.Errorf("nothing written: %v increments per write", got)
	}
}
