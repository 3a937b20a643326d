package api

import (
	"fmt"
	"strconv"

	"github.com/gin-gonic/gin"

	"github.com/accrue/accrue/pkg/content"
)

const (
	// totalsPath has the totals as metrics, apart from those of the process: who scrapes one does not need the other.
	totalsPath = "/metrics/totals"
	// openMetrics is the media type of metrics (https://prometheus.io/docs/specs/om/open_metrics_spec/).
	openMetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8"
)

// totals answers /metrics/totals: the biggest totals, and how many others there are.
func (t *tags) totals(c *gin.Context) {
	if d := readParameters(c.Request, nil); d != nil {
		d.Write(c.Writer)
		return
	}
	v := latest(c, t.views)
	if v == nil {
		return
	}
	tags, places := v.Tags(), t.sorted.of(v, "-total", nil)
	shown := places[:min(t.metrics, len(places))]
	// Names need no escaping: they consist of letters and underscores.
	b := []byte("# TYPE accrue counter\n# HELP accrue Sum of the values of a tag's increments.\n")
	for _, place := range shown {
		b = append(b, `accrue_total{tag="`...)
		b = append(b, tags[place].Name...)
		b = append(b, `"} `...)
		b = strconv.AppendInt(b, tags[place].Total, 10)
		b = append(b, '\n')
	}
	b = fmt.Appendf(b, "# TYPE accrue_totals_left_out gauge\n# HELP accrue_totals_left_out Tags beyond the %d biggest, which are not here.\n"+
		"accrue_totals_left_out %d\n# EOF\n", t.metrics, len(places)-len(shown))
	h := c.Writer.Header()
	h.Set("Content-Type", openMetrics)
	h.Set("Cache-Control", "no-cache")
	h.Set(asOfHeader, formatTime(v.AsOf()))
	content.New(b, content.Tag(b)).Serve(c.Writer, c.Request)
}
