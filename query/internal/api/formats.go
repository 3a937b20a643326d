package api

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/accrue/accrue/pkg/content"
	"github.com/accrue/accrue/pkg/problem"
)

// The media types of answers that are lists. The first is what a request gets that does not say what it accepts.
const (
	jsonType  = "application/json"
	csvType   = "text/csv"
	linesType = "application/x-ndjson"
)

// negotiate returns the media type that a request accepts most, of those of lists, or answers 406 and returns false.
func negotiate(c *gin.Context) (media string, ok bool) {
	c.Writer.Header().Add("Vary", "Accept")
	if media = preferred(c.Request.Header.Values("Accept"), jsonType, csvType, linesType); media != "" {
		return media, true
	}
	problem.New(http.StatusNotAcceptable, fmt.Sprintf("this resource is available as %s, %s and %s", jsonType, csvType, linesType)).Write(c.Writer)
	return "", false
}

// preferred returns the media type, of those that are offered, that the lines of an Accept header give the highest weight, and of
// these the first; "" if they accept none (RFC 9110, section 12.5.1). Without a header it is the first.
func preferred(lines []string, offered ...string) string {
	if len(lines) == 0 {
		return offered[0]
	}
	best, highest := "", 0.
	for _, media := range offered {
		if weight := weightOf(lines, media); weight > highest {
			best, highest = media, weight
		}
	}
	return best
}

// weightOf returns the weight of a media type: that of the most specific range that it is in.
func weightOf(lines []string, media string) float64 {
	kind, _, _ := strings.Cut(media, "/")
	weight, specific := 0., 0
	for _, line := range lines {
		for item := range strings.SplitSeq(line, ",") {
			name, parameters, _ := strings.Cut(item, ";")
			rank := map[string]int{media: 3, kind + "/*": 2, "*/*": 1}[strings.ToLower(strings.TrimSpace(name))]
			if rank > specific {
				weight, specific = weightIn(parameters), rank
			}
		}
	}
	return weight
}

// weightIn returns the weight in the parameters of a media range: 1 if there is none, and 0 if it is malformed.
func weightIn(parameters string) float64 {
	for parameter := range strings.SplitSeq(parameters, ";") {
		name, value, _ := strings.Cut(parameter, "=")
		if !strings.EqualFold(strings.TrimSpace(name), "q") {
			continue
		}
		weight, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil || weight < 0 || weight > 1 {
			return 0
		}
		return weight
	}
	return 1
}

// row is a line of a list: fields in CSV, and a JSON object.
type row interface{ fields() []string }

// list is what an answer as CSV or NDJSON has: a head, and rows of as many fields. The rows can be gone through more than once.
type list struct {
	head []string
	rows iter.Seq[row]
}

// answerList answers with a list as CSV or NDJSON, in bounded memory. Next is the token of the next page, if there is one: the header
// Link has its address.
func answerList(c *gin.Context, asOf time.Time, media string, l list, next string) {
	h := c.Writer.Header()
	if next != "" {
		query := c.Request.URL.Query()
		query.Set(parameterPageToken, next)
		h.Set("Link", fmt.Sprintf(`<?%s>; rel="next"`, query.Encode()))
	}
	h.Set("Content-Type", media)
	write := l.lines
	if media == csvType {
		h.Set("Content-Type", csvType+"; charset=utf-8; header=present")
		write = l.csv
	}
	h.Set("Cache-Control", "no-cache")
	h.Set(asOfHeader, formatTime(asOf))
	content.Stream(c.Writer, c.Request, write)
}

// csv writes the list as RFC 4180 has it. Errors are those of w.
func (l list) csv(w io.Writer) {
	encoder := csv.NewWriter(w)
	encoder.UseCRLF = true
	_ = encoder.Write(l.head)
	for r := range l.rows {
		if encoder.Write(r.fields()) != nil {
			return
		}
	}
	encoder.Flush()
}

// lines writes each row as a JSON object in a line.
func (l list) lines(w io.Writer) {
	encoder := json.NewEncoder(w)
	for r := range l.rows {
		if encoder.Encode(r) != nil {
			return
		}
	}
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }

// rowsOf goes through the rows of a page.
func rowsOf[R row](page []R) iter.Seq[row] {
	return func(yield func(row) bool) {
		for _, r := range page {
			if !yield(r) {
				return
			}
		}
	}
}

// totalRow is a tag in a list of totals.
type totalRow struct {
	Name  string `json:"name"`
	Total int64  `json:"total"`
}

func (r totalRow) fields() []string { return []string{r.Name, decimal(r.Total)} }

func (c contributorBody) fields() []string {
	return []string{c.ID, decimal(c.Contributions), decimal(c.RecognizedTier), c.UpdatedAt}
}

func (r contributorRecognition) fields() []string {
	return []string{r.Contributor, decimal(r.Tier), decimal(r.Contributions), r.RecognizedAt}
}

// changeRow is a period of a history, of a tag or of several together.
type changeRow struct {
	Name   string `json:"name,omitempty"`
	Begin  string `json:"begin"`
	Change int64  `json:"change"`
}

func (r changeRow) fields() []string {
	if r.Name == "" {
		return []string{r.Begin, decimal(r.Change)}
	}
	return []string{r.Name, r.Begin, decimal(r.Change)}
}

// changesOf is the list of a history, of all tags together if it has no tags by themselves.
func (r *historyRequest) changesOf(together []int64, tags []TagChanges) list {
	if tags == nil {
		return list{[]string{"begin", "change"}, func(yield func(row) bool) { r.each("", together, yield) }}
	}
	return list{[]string{"name", "begin", "change"}, func(yield func(row) bool) {
		for _, tag := range tags {
			if !r.each(tag.Name, tag.Changes, yield) {
				return
			}
		}
	}}
}

// each yields the periods of a history. It returns false if it is to stop.
func (r *historyRequest) each(name string, changes []int64, yield func(row) bool) bool {
	for i, change := range changes {
		if !yield(changeRow{name, r.begin(i).Format(time.RFC3339), change}) {
			return false
		}
	}
	return true
}

// begin returns when a period of the answer begins.
func (r *historyRequest) begin(i int) time.Time {
	if r.name == resolutionDay {
		return r.days[i]
	}
	return r.from.Add(time.Duration(i) * time.Duration(r.resolution))
}
