package api

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/gin-gonic/gin"

	"github.com/accrue/accrue/pkg/problem"
	"github.com/accrue/accrue/query/internal/view"
)

// tags answers /tags and /tags/{name}, from the view.
type tags struct {
	views Views
	// process tells this process's versions from those of others.
	process    string
	snapshots  snapshots
	compressor *compressor
}

// tagOrders are the values of order_by. The place of each is part of page tokens: new ones go to the end.
func tagOrders() []string {
	return []string{"name", "-name", "total", "-total", "updated_at", "-updated_at"}
}

// tagOrder is the place of an order in tagOrders.
type tagOrder byte

func (o tagOrder) descending() bool { return o%2 == 1 }
func (o tagOrder) byName() bool     { return o < 2 }
func (o tagOrder) sortedBy() sortedBy {
	if o < 4 {
		return byTotal
	}
	return byUpdatedAt
}

// tagPageRequest is what a request for a page of tags asks for.
type tagPageRequest struct {
	prefix string
	order  tagOrder
	size   int
	// after is where the page before ended, or nil for the first page.
	after *tagPosition
}

// tagPosition is where a page of tags ends: after a name in the orders by name, at a place in a snapshot in the others.
type tagPosition struct {
	name string

	process string
	version uint64
	place   int
}

// tagPage is what a page is made of.
type tagPage struct {
	tags []view.Tag
	asOf time.Time
	next *tagPosition // nil on the last page
}

// list answers /tags: a page, and the token of the next one if there is one.
func (t *tags) list(c *gin.Context) {
	request, d := tagPageOf(c.Request)
	if d != nil {
		d.Write(c.Writer)
		return
	}
	v := t.latest(c)
	if v == nil {
		return
	}
	page, d := t.page(v, request)
	if d != nil {
		d.Write(c.Writer)
		return
	}
	body := append(make([]byte, 0, 64+128*len(page.tags)), `{"tags":[`...)
	for i, tag := range page.tags {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, '{')
		body = appendTag(body, tag)
		body = append(body, '}')
	}
	body = append(body, ']')
	if page.next != nil {
		body = append(body, `,"next_page_token":"`...)
		body = append(body, encodeTagToken(request, page.next)...)
		body = append(body, '"')
	}
	t.answer(c, body, page.asOf)
}

// one answers /tags/{name}.
func (t *tags) one(c *gin.Context) {
	if d := refuseParameters(c.Request); d != nil {
		d.Write(c.Writer)
		return
	}
	v := t.latest(c)
	if v == nil {
		return
	}
	name, err := url.PathUnescape(c.Param("name"))
	i, found := search(v.Tags(), name)
	if err != nil || !found {
		problem.New(http.StatusNotFound, "there is no tag of this name").Write(c.Writer)
		return
	}
	t.answer(c, appendTag([]byte{'{'}, v.Tags()[i]), v.AsOf())
}

// latest returns the latest view, or answers that there is none yet and returns nil.
func (t *tags) latest(c *gin.Context) *view.View {
	v := t.views.View(c.Request.Context())
	if v.Version() == 0 {
		problem.Unavailable("the totals have not been read yet", time.Second).Write(c.Writer)
		return nil
	}
	return v
}

// answer answers with an object of which the end is missing: of which time it is. The entity tag is of what stands there
// already, and weak: the same tags have the same one, however old they are.
func (t *tags) answer(c *gin.Context, body []byte, asOf time.Time) {
	h := c.Writer.Header()
	etag := fmt.Sprintf(`"%016x"`, xxhash.Sum64(body))
	h.Set("ETag", "W/"+etag)
	h.Set("Cache-Control", "no-cache")
	h.Add("Vary", "Accept-Encoding")
	h.Set(asOfHeader, formatTime(asOf))
	if matches(c.Request.Header.Values("If-None-Match"), etag) {
		c.Status(http.StatusNotModified)
		return
	}
	body = append(body, ',')
	body = appendFreshness(body, asOf)
	body = append(body, '}')
	if len(body) >= minCompressed && acceptsGzip(c.Request.Header.Values("Accept-Encoding")) {
		body = t.compressor.compress(body)
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	c.Status(http.StatusOK)
	_, _ = c.Writer.Write(body) // the server drops it for HEAD; on an error the client is gone: nobody to tell
}

// appendTag appends a tag's members. Names need no escaping, as for encode.
func appendTag(b []byte, t view.Tag) []byte {
	b = append(b, `"name":"`...)
	b = append(b, t.Name...)
	b = append(b, `","total":`...)
	b = strconv.AppendInt(b, t.Total, 10)
	b = append(b, `,"increments":`...)
	b = strconv.AppendInt(b, t.Increments, 10)
	b = append(b, `,"updated_at":"`...)
	b = t.UpdatedAt.UTC().AppendFormat(b, asOfFormat)
	return append(b, '"')
}

// appendFreshness appends the members that freshness has.
func appendFreshness(b []byte, asOf time.Time) []byte {
	f := freshnessOf(asOf)
	b = append(b, `"as_of":"`...)
	b = append(b, f.AsOf...)
	b = append(b, `","lag_ms":`...)
	return strconv.AppendInt(b, f.LagMS, 10)
}

// tagPageOf returns what a request asks for, or a problem that names every parameter at fault.
func tagPageOf(r *http.Request) (tagPageRequest, *problem.Document) {
	request := tagPageRequest{size: defaultPageSize}
	token := ""
	d := readParameters(r, map[string]parameter{
		"prefix": func(value string) string { request.prefix = value; return "" },
		parameterOrder: func(value string) string {
			order := slices.Index(tagOrders(), value)
			if order < 0 {
				return "must be one of " + strings.Join(tagOrders(), ", ")
			}
			request.order = tagOrder(order) //nolint:gosec // one of six
			return ""
		},
		parameterPageSize:  readPageSize(&request.size),
		parameterPageToken: func(value string) string { token = value; return "" },
	})
	if d == nil && token != "" {
		var err error
		if request.after, err = decodeTagToken(request, token); err != nil {
			d = wrongToken(err)
		}
	}
	return request, d
}

func wrongToken(err error) *problem.Document {
	return problem.New(http.StatusBadRequest, "a parameter is wrong", problem.Fault{Parameter: parameterPageToken, Detail: err.Error()})
}

// page returns what a request asks for. Pages by name are of the latest view: a name keeps its place, whatever is counted,
// so that every tag that exists all the while is on exactly one page, with its total as it is by then. Pages in the other
// orders are of the snapshot that the first one was of, with its totals.
func (t *tags) page(v *view.View, request tagPageRequest) (tagPage, *problem.Document) {
	if request.order.byName() {
		return pageByName(v, request), nil
	}
	after := request.after
	if after == nil {
		sorted, asOf := t.snapshots.of(v, request.order.sortedBy())
		return t.pageOfSnapshot(sorted, asOf, v.Version(), 0, request), nil
	}
	sorted, asOf, ok := t.snapshots.again(after.version, request.order.sortedBy())
	if !ok || after.process != t.process {
		return tagPage{}, problem.New(http.StatusGone,
			"the pages of this order show one moment, which this server does not keep any more or never kept: start over with the first page; pages by name do not expire",
			problem.Fault{Parameter: parameterPageToken, Detail: "has expired"})
	}
	if after.place >= len(sorted) {
		return tagPage{}, wrongToken(errTagToken)
	}
	return t.pageOfSnapshot(sorted, asOf, after.version, after.place, request), nil
}

// pageByName returns a page of a view.
func pageByName(v *view.View, request tagPageRequest) tagPage {
	tags := withPrefix(v.Tags(), request.prefix)
	page := tagPage{asOf: v.AsOf()}
	if request.order.descending() {
		if request.after != nil {
			end, _ := search(tags, request.after.name)
			tags = tags[:end]
		}
		begin := max(0, len(tags)-request.size)
		page.tags = slices.Clone(tags[begin:])
		slices.Reverse(page.tags)
		tags = tags[:begin]
	} else {
		if request.after != nil {
			begin, found := search(tags, request.after.name)
			if found {
				begin++
			}
			tags = tags[begin:]
		}
		end := min(len(tags), request.size)
		page.tags, tags = tags[:end], tags[end:]
	}
	if len(tags) > 0 {
		page.next = &tagPosition{name: page.tags[len(page.tags)-1].Name}
	}
	return page
}

// pageOfSnapshot returns the page of a snapshot that begins at a place in its order.
func (t *tags) pageOfSnapshot(sorted []view.Tag, asOf time.Time, version uint64, place int, request tagPageRequest) tagPage {
	page := tagPage{asOf: asOf}
	for ; place < len(sorted); place++ {
		i := place
		if request.order.descending() {
			i = len(sorted) - 1 - place
		}
		if !strings.HasPrefix(sorted[i].Name, request.prefix) {
			continue
		}
		if len(page.tags) == request.size {
			page.next = &tagPosition{process: t.process, version: version, place: place}
			break
		}
		page.tags = append(page.tags, sorted[i])
	}
	return page
}

// withPrefix returns the tags, sorted by name, that begin with a prefix.
func withPrefix(tags []view.Tag, prefix string) []view.Tag {
	begin, _ := search(tags, prefix)
	tags = tags[begin:]
	return tags[:sort.Search(len(tags), func(i int) bool { return !strings.HasPrefix(tags[i].Name, prefix) })]
}

// search returns the place of a name among tags sorted by name, and whether it is there.
func search(tags []view.Tag, name string) (place int, found bool) {
	return slices.BinarySearchFunc(tags, name, func(t view.Tag, name string) int { return strings.Compare(t.Name, name) })
}

// errTagToken is the case of a page token that this API has not given out, or not for this list.
var errTagToken = errors.New("must be the next_page_token of a page with the same prefix and order_by")

// tokenOfTags is the first byte of a token of the first of the tagOrders. Those of other lists are below it.
const tokenOfTags = 16

// encodeTagToken makes the token of the page after one that ended at next: opaque to clients, and no secret. It holds the
// order and the prefix, to which it is bound, and then the name, or the version, the place and the process.
func encodeTagToken(request tagPageRequest, next *tagPosition) string {
	token := []byte{tokenOfTags + byte(request.order)}
	token = binary.AppendUvarint(token, uint64(len(request.prefix)))
	token = append(token, request.prefix...)
	if request.order.byName() {
		token = append(token, next.name...)
	} else {
		token = binary.AppendUvarint(token, next.version)
		token = binary.AppendUvarint(token, uint64(next.place)) //nolint:gosec // not negative
		token = append(token, next.process...)
	}
	return base64.RawURLEncoding.EncodeToString(token)
}

// decodeTagToken returns where the page before ended, for a request of the same prefix and order.
func decodeTagToken(request tagPageRequest, encoded string) (*tagPosition, error) {
	token, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil || len(token) == 0 || token[0] != tokenOfTags+byte(request.order) {
		return nil, errTagToken
	}
	token = token[1:]
	var numbers [3]uint64 // the prefix's length, the version, the place
	read := func(i int) bool {
		var n int
		if numbers[i], n = binary.Uvarint(token); n <= 0 {
			return false
		}
		token = token[n:]
		return true
	}
	if !read(0) || numbers[0] != uint64(len(request.prefix)) || !strings.HasPrefix(string(token), request.prefix) {
		return nil, errTagToken
	}
	token = token[len(request.prefix):]
	if request.order.byName() {
		if len(token) == 0 {
			return nil, errTagToken
		}
		return &tagPosition{name: string(token)}, nil
	}
	if !read(1) || !read(2) || numbers[2] > maxPlace || len(token) == 0 {
		return nil, errTagToken
	}
	return &tagPosition{process: string(token), version: numbers[1], place: int(numbers[2])}, nil //nolint:gosec // maxPlace at most
}

// maxPlace is more tags than there can ever be.
const maxPlace = 1<<31 - 1
