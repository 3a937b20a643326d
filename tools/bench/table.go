package bench

import (
	"fmt"
	"io"
	"slices"
	"time"
)

// The units of rows. A ratio has none.
const (
	ratio     = ""
	seconds   = "s"
	bytes     = "bytes"
	perSecond = "/s"
	dollars   = "$"
	cores     = "cores"
)

// row is one figure.
type row struct {
	// Key names the figure for programs. It stays the same when What changes.
	Key    string  `json:"key"`
	What   string  `json:"what"`
	Unit   string  `json:"unit"`
	Median float64 `json:"median"`
	Least  float64 `json:"least"`
	Most   float64 `json:"most"`
}

// table is the result of a run.
type table struct{ rows []row }

// add adds a figure that was measured once or more often.
func (t *table) add(key, unit, what string, values ...float64) {
	t.rows = append(t.rows, row{key, what, unit, median(values), slices.Min(values), slices.Max(values)})
}

// print writes the table for people.
func (t *table) print(w io.Writer) {
	fmt.Fprint(w, "| what | median | least to most |\n|---|--:|--:|\n")
	for _, r := range t.rows {
		span := ""
		if r.Least != r.Most {
			span = show(r.Least, r.Unit) + " to " + show(r.Most, r.Unit)
		}
		fmt.Fprintf(w, "| %s | %s | %s |\n", r.What, show(r.Median, r.Unit), span)
	}
}

// show returns a value with its unit.
func show(v float64, unit string) string {
	switch unit {
	case seconds:
		switch {
		case v < 0.1:
			return fmt.Sprintf("%.1f ms", v*1000)
		case v < 10:
			return fmt.Sprintf("%.0f ms", v*1000)
		}
		return fmt.Sprintf("%.1f s", v)
	case bytes:
		return fmt.Sprintf("%.0f MiB", v/(1<<20))
	case perSecond:
		return fmt.Sprintf("%.0f/s", v)
	case dollars:
		return fmt.Sprintf("$%.2f", v)
	case cores:
		return fmt.Sprintf("%.2f cores", v)
	}
	if v >= 100 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// median returns the median of values, of which there is one at least: of an even number, the greater of the two in the middle.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// perSecondOf returns n in a time as a rate.
func perSecondOf(n int64, in time.Duration) float64 { return float64(n) / in.Seconds() }

// ratios returns the quotients of two measurements of each round.
func ratios(of, to []float64) []float64 {
	all := make([]float64, len(of))
	for i := range all {
		all[i] = of[i] / to[i]
	}
	return all
}
