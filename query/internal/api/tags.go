package api

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/gin-gonic/gin"

	"github.com/accrue/accrue/pkg/problem"
	"github.com/accrue/accrue/query/internal/view"
)

// tags answers /tags and /tags/{name}, from the view.
type tags struct {
	views  Views
	sorted sortedTags
	movers movers
	past   *pasts
	// metrics bounds the tags at /metrics/totals.
	metrics int
}

// Tag is a tag in a list.
//
//	@Description	A tag.
type Tag struct {
	// The tag's name.
	Name string `json:"name" validate:"required" example:"foo" extensions:"x-go-pattern=increment.NamePattern,x-go-minlength=increment.MinNameLength,x-go-maxlength=increment.MaxNameLength"`
	// The sum of the values of its increments.
	Total int64 `json:"total" validate:"required" example:"13" minimum:"1"`
	// How many increments it has had.
	Increments int64 `json:"increments" validate:"required" example:"2" minimum:"1"`
	// When it was last counted, by the database's clock.
	UpdatedAt string `json:"updated_at" validate:"required" format:"date-time" example:"2026-11-23T08:01:41.566Z"`
} //	@name	Tag

// TagNow is a tag as an answer by itself.
//
//	@Description	A tag, and how old the answer is.
type TagNow struct {
	Tag
	freshness
} //	@name	TagNow

// ListedTag is a tag in a page of tags.
//
//	@Description	A tag in a page.
type ListedTag struct {
	Tag
	// What was added to the total per second, over the last five whole minutes. Only in the order by rate.
	Rate *float64 `json:"rate,omitempty" example:"0.733" minimum:"0"`
	// How much more was added to the total in the last 24 whole hours than in the 24 before. Only in the order by change.
	Change *int64 `json:"change,omitempty" example:"-12"`
} //	@name	ListedTag

// TagPage is a page of tags.
//
//	@Description	A page of tags.
type TagPage struct {
	// The tags, in the requested order.
	Tags []ListedTag `json:"tags" validate:"required" extensions:"x-go-maxitems=maxPageSize"`
	// The page_token of the next page, if there is one.
	NextPageToken string `json:"next_page_token,omitempty" example:"eyJsIjoidGFncyBuYW1lICIsImkiOiJiYWxseiJ9"`
	freshness
} //	@name	TagPage

func tagOf(t view.Tag) Tag { return Tag{t.Name, t.Total, t.Increments, formatTime(t.UpdatedAt)} }

// tagOrders are the values of order_by.
var tagOrders = []string{"name", "-name", "total", "-total", "updated_at", "-updated_at", byRate, "-" + byRate, byChange, "-" + byChange}

// valueOf returns what an order sorts a tag by, ascending; equals are in the order of names. Moved are the moves that the order is
// by, if any.
func valueOf(order string, t view.Tag, moved *moves) int64 {
	if moved != nil {
		if strings.HasPrefix(order, "-") {
			return -moved.values[t.Name]
		}
		return moved.values[t.Name]
	}
	switch order {
	case "total":
		return t.Total
	case "-total":
		return -t.Total
	case "updated_at":
		return t.UpdatedAt.UnixMilli()
	case "-updated_at":
		return -t.UpdatedAt.UnixMilli()
	default:
		return 0
	}
}

// list answers /tags: a page of the latest view, and the token of the next one if there is one. A tag keeps its place in
// the orders by name. In the others it moves when it is counted, and may then be on two pages or on none.
func (t *tags) list(c *gin.Context) {
	prefix, order, size, token := "", "name", pageSize, ""
	d := readParameters(c.Request, map[string]parameter{
		"prefix": readText(&prefix), parameterOrder: readChoice(&order, tagOrders...),
		parameterPageSize: readPageSize(&size, maxPageSize), parameterPageToken: readText(&token),
	})
	if d != nil {
		d.Write(c.Writer)
		return
	}
	list := "tags " + order + " " + prefix
	after, d := readCursor(list, token)
	if d != nil {
		d.Write(c.Writer)
		return
	}
	v := latest(c, t.views)
	if v == nil {
		return
	}
	moved, ok := readPast(t.past, c, func(ctx context.Context) (*moves, error) { return t.movers.of(ctx, v, order) })
	if !ok {
		return
	}
	page := TagPage{Tags: make([]ListedTag, 0, min(size, len(v.Tags()))), freshness: freshnessOf(v.AsOf())}
	var last view.Tag
	for tag := range t.after(v, order, prefix, moved, after) {
		if len(page.Tags) == size {
			page.NextPageToken = cursor{List: list, Value: valueOf(order, last, moved), ID: last.Name}.token()
			break
		}
		page.Tags = append(page.Tags, listed(tag, order, moved))
		last = tag
	}
	answerJSON(c, v.AsOf(), page)
}

// listed returns a tag with what it moved, if the order is by that.
func listed(t view.Tag, order string, moved *moves) ListedTag {
	item := ListedTag{Tag: tagOf(t)}
	if moved == nil {
		return item
	}
	value := moved.values[t.Name]
	if strings.TrimPrefix(order, "-") == byChange {
		item.Change = &value
		return item
	}
	rate := perSecond(value)
	item.Rate = &rate
	return item
}

// after yields the tags of a view that have a prefix, in an order, beginning after a cursor.
func (t *tags) after(v *view.View, order, prefix string, moved *moves, after *cursor) func(yield func(view.Tag) bool) {
	tags := withPrefix(v.Tags(), prefix)
	at := func(i int) view.Tag { return tags[i] }
	switch order {
	case "name":
	case "-name":
		at = func(i int) view.Tag { return tags[len(tags)-1-i] }
	default:
		tags = v.Tags()
		places := t.sorted.of(v, order, moved)
		at = func(i int) view.Tag { return tags[places[i]] }
	}
	begin := 0
	if after != nil {
		begin = sort.Search(len(tags), func(i int) bool {
			byName := strings.Compare(at(i).Name, after.ID)
			if order == "-name" {
				byName = -byName
			}
			return cmp.Or(cmp.Compare(valueOf(order, at(i), moved), after.Value), byName) > 0
		})
	}
	return func(yield func(view.Tag) bool) {
		for i := begin; i < len(tags); i++ {
			if tag := at(i); strings.HasPrefix(tag.Name, prefix) && !yield(tag) {
				return
			}
		}
	}
}

// sortedTags are the tags of the latest view in the orders that are not by name, sorted at the first request for each. It
// is safe for concurrent use; the zero value is ready.
type sortedTags struct {
	mu      sync.Mutex
	version uint64
	places  map[string]sortedPlaces // by order
}

// sortedPlaces are places in a view's tags.
type sortedPlaces struct {
	places []int32
	moved  *moves // that they are sorted by
}

// of returns the places of a view's tags in an order. Moved are the moves that the order is by, if any.
func (s *sortedTags) of(v *view.View, order string, moved *moves) []int32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.version != v.Version() {
		s.version, s.places = v.Version(), make(map[string]sortedPlaces)
	}
	sorted, ok := s.places[order]
	places := sorted.places
	if !ok || sorted.moved != moved {
		tags := v.Tags()
		places = make([]int32, len(tags))
		for i := range places {
			places[i] = int32(i) // there are fewer than 2^31 tags
		}
		slices.SortFunc(places, func(a, b int32) int { // equals by place, which is by name
			return cmp.Or(cmp.Compare(valueOf(order, tags[a], moved), valueOf(order, tags[b], moved)), cmp.Compare(a, b))
		})
		s.places[order] = sortedPlaces{places, moved}
	}
	return places
}

// get answers /tags/{name}.
func (t *tags) get(c *gin.Context) {
	if d := readParameters(c.Request, nil); d != nil {
		d.Write(c.Writer)
		return
	}
	if v, tag, ok := find(c, t.views); ok {
		answerJSON(c, v.AsOf(), TagNow{tagOf(tag), freshnessOf(v.AsOf())})
	}
}

// find returns the tag that a path names and the view that it is of, or answers that there is none.
func find(c *gin.Context, views Views) (*view.View, view.Tag, bool) {
	v := latest(c, views)
	if v == nil {
		return nil, view.Tag{}, false
	}
	name, err := url.PathUnescape(c.Param("name"))
	i, found := search(v.Tags(), name)
	if err != nil || !found {
		problem.New(http.StatusNotFound, "there is no tag of this name").Write(c.Writer)
		return nil, view.Tag{}, false
	}
	return v, v.Tags()[i], true
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
