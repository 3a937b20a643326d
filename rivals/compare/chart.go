package compare

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// The measures of the chart, in pixels.
const (
	chartWidth = 820
	labelWidth = 190
	valueWidth = 90
	barHeight  = 18
	rowHeight  = 28
	chartTop   = 64
)

// chart returns an SVG picture of the rates in the first shape: a bar for the median, and a line from the least to the most.
func (r *report) chart() string {
	colors := map[class]string{none: "#b8b8b8", memory: "#9ecae1", killed: "#fdae6b", fsync: "#2b7a4b"}
	highest := 0.0
	for i := range r.subjects {
		highest = math.Max(highest, spreadOf(collect(r.results[0][i], rate)).most)
	}
	const room = chartWidth - labelWidth - valueWidth
	x := func(rate float64) float64 { return labelWidth + rate/highest*room }
	height := chartTop + rowHeight*len(r.subjects) + 12
	var b strings.Builder
	w := func(format string, arguments ...any) { fmt.Fprintf(&b, format, arguments...) }
	title := shapes()[0].String() + ": posts per second"
	w(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="system-ui, sans-serif" font-size="13" role="img" aria-label="%s">`+"\n",
		chartWidth, height, title)
	w(`<rect width="100%%" height="100%%" fill="#ffffff"/>` + "\n")
	w(`<text x="12" y="22" font-size="15" font-weight="600" fill="#111">%s</text>`+"\n", title)
	at := 12
	for _, legend := range []struct {
		class class
		text  string
	}{
		{none, "counts nothing"}, {memory, "D0: memory"}, {killed, "D1: survives SIGKILL"}, {fsync, "D2: fsynced before the answer"},
	} {
		w(`<rect x="%d" y="36" width="12" height="12" fill="%s"/><text x="%d" y="47" fill="#333">%s</text>`+"\n",
			at, colors[legend.class], at+17, legend.text)
		at += 45 + 7*len(legend.text)
	}
	for i, s := range r.subjects {
		rates := spreadOf(collect(r.results[0][i], rate))
		top := chartTop + i*rowHeight
		middle := float64(top) + barHeight/2
		weight := "400"
		if s.accrue {
			weight = "700"
		}
		w(`<text x="%d" y="%d" text-anchor="end" fill="#111" font-weight="%s">%s</text>`+"\n",
			labelWidth-8, top+14, weight, html.EscapeString(s.name))
		w(`<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n", labelWidth, top, x(rates.median)-labelWidth, barHeight, colors[s.class])
		w(`<path d="M%.1f %.1fH%.1f" stroke="#111" stroke-width="1.5"/>`+"\n", x(rates.least), middle, x(rates.most))
		w(`<text x="%.1f" y="%d" fill="#111">%s</text>`+"\n", x(math.Max(rates.median, rates.most))+6, top+14, thousands(rates.median))
	}
	w("</svg>\n")
	return b.String()
}
