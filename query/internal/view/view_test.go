package view_test

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/query/internal/view"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var epoch = time.Date(2026, 11, 23, 6, 0, 0, 0, time.UTC)

// at returns the time n seconds after epoch.
func at(n int) time.Time { return epoch.Add(time.Duration(n) * time.Second) }

// partition returns partition n at a revision, with totals sorted by name.
func partition(n uint32, revision int, totals ...checkpoint.Total) store.PartitionTotals {
	return store.PartitionTotals{Partition: n, Revision: store.Revision{UpdateTime: at(revision)}, Totals: totals, UpdatedAt: at(revision)}
}

func TestNextSumsATagOverPartitions(t *testing.T) {
	t.Parallel()
	var zero view.View
	v := zero.Next([]store.PartitionTotals{
		partition(3, 1, checkpoint.Total{Name: "foo", Total: 9, Increments: 2, UpdatedAt: at(5)}),
		partition(0, 1, checkpoint.Total{Name: "ballz", Total: 76, Increments: 20, UpdatedAt: at(1)},
			checkpoint.Total{Name: "foo", Total: 4, Increments: 1, UpdatedAt: at(3)}),
	}, at(10))
	want := []view.Tag{
		{Name: "ballz", Total: 76, Increments: 20, UpdatedAt: at(1), Version: 1},
		{Name: "foo", Total: 13, Increments: 3, UpdatedAt: at(5), Version: 1},
	}
	if got := v.Tags(); !reflect.DeepEqual(got, want) {
		t.Errorf("Tags() = %v, want %v", got, want)
	}
	if v.Version() != 1 || !v.AsOf().Equal(at(10)) {
		t.Errorf("version %d as of %v, want 1 as of %v", v.Version(), v.AsOf(), at(10))
	}
}

func TestVersionChangesWithTheContentAlone(t *testing.T) {
	t.Parallel()
	foo := checkpoint.Total{Name: "foo", Total: 4, Increments: 1, UpdatedAt: at(3)}
	more := checkpoint.Total{Name: "foo", Total: 5, Increments: 2, UpdatedAt: at(4)}
	for name, tc := range map[string]struct {
		before, after []store.PartitionTotals
		want          uint64
	}{
		"nothing, then nothing":          {nil, nil, 1},
		"nothing, then a tag":            {nil, []store.PartitionTotals{partition(0, 1, foo)}, 2},
		"nothing, then an empty one":     {nil, []store.PartitionTotals{partition(0, 1)}, 1},
		"the same revision":              {[]store.PartitionTotals{partition(0, 1, foo)}, []store.PartitionTotals{partition(0, 1, foo)}, 1},
		"another revision, same totals":  {[]store.PartitionTotals{partition(0, 1, foo)}, []store.PartitionTotals{partition(0, 2, foo)}, 1},
		"another total":                  {[]store.PartitionTotals{partition(0, 1, foo)}, []store.PartitionTotals{partition(0, 2, more)}, 2},
		"the tag in another partition":   {[]store.PartitionTotals{partition(0, 1, foo)}, []store.PartitionTotals{partition(7, 1, foo)}, 1},
		"the partition's document gone":  {[]store.PartitionTotals{partition(0, 1, foo)}, nil, 2},
		"a second partition with a part": {[]store.PartitionTotals{partition(0, 1, foo)}, []store.PartitionTotals{partition(0, 1, foo), partition(1, 1, foo)}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := new(view.View).Next(tc.before, at(10))
			after := before.Next(tc.after, at(11))
			if after.Version() != tc.want {
				t.Errorf("Version() = %d, want %d", after.Version(), tc.want)
			}
			if !before.AsOf().Equal(at(10)) || !after.AsOf().Equal(at(11)) {
				t.Errorf("as of %v and %v, want %v and %v", before.AsOf(), after.AsOf(), at(10), at(11))
			}
		})
	}
}

// Next trusts revisions: otherwise an unchanged partition would cost as much as a changed one.
func TestNextSkipsAPartitionOfTheSameRevision(t *testing.T) {
	t.Parallel()
	v := new(view.View).Next([]store.PartitionTotals{partition(0, 1, checkpoint.Total{Name: "foo", Total: 4})}, at(1))
	v = v.Next([]store.PartitionTotals{
		partition(0, 1, checkpoint.Total{Name: "foo", Total: 5}), partition(1, 1, checkpoint.Total{Name: "zoo", Total: 1}),
	}, at(2))
	if got := v.Tags(); len(got) != 2 || got[0].Total != 4 {
		t.Errorf("Tags() = %v, want foo as it was", got)
	}
}

func TestChangesSinceReportsUnknownVersions(t *testing.T) {
	t.Parallel()
	foo, zoo := checkpoint.Total{Name: "foo", Total: 4}, checkpoint.Total{Name: "zoo", Total: 1}
	one := new(view.View).Next([]store.PartitionTotals{partition(0, 1, foo), partition(1, 1, zoo)}, at(1))
	two := one.Next([]store.PartitionTotals{partition(0, 1, foo)}, at(2)) // zoo has left
	for name, tc := range map[string]struct {
		view  *view.View
		since uint64
		want  bool
	}{
		"from the beginning":              {one, 0, true},
		"from now":                        {one, 1, true},
		"from a version that is to come":  {one, 2, false},
		"over a removal":                  {two, 1, false},
		"from the beginning, a removal":   {two, 0, false},
		"from the version of the removal": {two, 2, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if changes, ok := tc.view.ChangesSince(tc.since); ok != tc.want {
				t.Errorf("ChangesSince(%d) = %v, %v, want %v", tc.since, changes, ok, tc.want)
			}
		})
	}
}

func TestUnreadablePartitionKeepsItsLastTotals(t *testing.T) {
	t.Parallel()
	damaged := store.PartitionTotals{Partition: 1, Revision: store.Revision{UpdateTime: at(5)}, Err: errDown}
	foo, zoo := checkpoint.Total{Name: "foo", Total: 4}, checkpoint.Total{Name: "zoo", Total: 9}
	steps := []struct {
		name       string
		read       []store.PartitionTotals
		tags       string
		unreadable int
	}{
		{"unreadable from the start", []store.PartitionTotals{partition(0, 1, foo), damaged}, "foo", 1},
		{"still", []store.PartitionTotals{partition(0, 1, foo), damaged}, "foo", 1},
		{"repaired", []store.PartitionTotals{partition(0, 1, foo), partition(1, 6, zoo)}, "foo zoo", 0},
		{"damaged again", []store.PartitionTotals{partition(0, 2, foo), damaged}, "foo zoo", 1},
		{"deleted", []store.PartitionTotals{partition(0, 2, foo)}, "foo", 0},
	}
	v := new(view.View)
	for _, step := range steps {
		v = v.Next(step.read, at(10))
		var names []string
		for _, tag := range v.Tags() {
			names = append(names, tag.Name)
		}
		if got := strings.Join(names, " "); got != step.tags || len(v.Unreadable()) != step.unreadable {
			t.Errorf("%s: tags %q, unreadable %v, want %q and %d", step.name, got, v.Unreadable(), step.tags, step.unreadable)
		}
	}
}

// partitions is a naive model of the store.
type partitions map[uint32]*struct {
	revision int
	totals   map[string]checkpoint.Total
}

// read returns what a reader finds, in any order and in new slices.
func (ps partitions) read(t *rapid.T) []store.PartitionTotals {
	all := make([]store.PartitionTotals, 0, len(ps))
	for _, n := range slices.Sorted(maps.Keys(ps)) {
		p := ps[n]
		totals := slices.SortedFunc(maps.Values(p.totals), func(a, b checkpoint.Total) int { return cmp.Compare(a.Name, b.Name) })
		all = append(all, partition(n, p.revision, totals...))
	}
	return rapid.Permutation(all).Draw(t, "order")
}

// tags merges all partitions from scratch, without versions.
func (ps partitions) tags() map[string]view.Tag {
	tags := make(map[string]view.Tag)
	for _, p := range ps {
		for name, total := range p.totals {
			tag := tags[name]
			tag.Name = name
			tag.Total += total.Total
			tag.Increments += total.Increments
			if total.UpdatedAt.After(tag.UpdatedAt) {
				tag.UpdatedAt = total.UpdatedAt
			}
			tags[name] = tag
		}
	}
	return tags
}

// byName returns the view as a map, without versions.
func byName(tags []view.Tag) map[string]view.Tag {
	m := make(map[string]view.Tag, len(tags))
	for _, tag := range tags {
		tag.Version = 0
		m[tag.Name] = tag
	}
	return m
}

// For any history of the store, the incremental view equals a merge from scratch; the version changes exactly when the
// content does; the changes since any earlier view lead to the present one, unless a tag was removed; and views are immutable.
func TestViewEqualsTheNaiveMerge(t *testing.T) {
	t.Parallel()
	type seen struct {
		view     *view.View
		tags     []view.Tag
		content  map[string]view.Tag
		removals int
	}
	rapid.Check(t, func(t *rapid.T) {
		var (
			names     = rapid.SampledFrom([]string{"___", "aaa", "aab", "foo", "zoo", "zzzzzzzzzzzzzzz"})
			numbers   = rapid.Uint32Range(0, 3)
			ps        = make(partitions)
			revisions = 0
			removals  = 0
			history   = []seen{{view: new(view.View), content: map[string]view.Tag{}}}
		)
		touch := func(t *rapid.T) uint32 {
			n := numbers.Draw(t, "partition")
			if ps[n] == nil {
				ps[n] = &struct {
					revision int
					totals   map[string]checkpoint.Total
				}{totals: make(map[string]checkpoint.Total)}
			}
			revisions++
			ps[n].revision = revisions
			return n
		}
		t.Repeat(map[string]func(*rapid.T){
			"count": func(t *rapid.T) {
				p := ps[touch(t)]
				for _, name := range rapid.SliceOfN(names, 0, 4).Draw(t, "tags") {
					total := p.totals[name]
					total.Name = name
					total.Total += rapid.Int64Range(0, 9).Draw(t, "value")
					total.Increments++
					total.UpdatedAt = at(rapid.IntRange(0, 20).Draw(t, "time")) // forwards and back
					p.totals[name] = total
				}
			},
			"move a time": func(t *rapid.T) {
				p, name := ps[touch(t)], names.Draw(t, "tag")
				if total, ok := p.totals[name]; ok {
					total.UpdatedAt = at(rapid.IntRange(0, 20).Draw(t, "time"))
					p.totals[name] = total
				}
			},
			"drop a tag":     func(t *rapid.T) { delete(ps[touch(t)].totals, names.Draw(t, "tag")) },
			"drop partition": func(t *rapid.T) { delete(ps, numbers.Draw(t, "partition")) },
			"renumber": func(t *rapid.T) {
				from, to := numbers.Draw(t, "from"), numbers.Draw(t, "to")
				if ps[from] != nil && ps[to] == nil {
					ps[to] = ps[from]
					delete(ps, from)
				}
			},
			"nothing": func(*rapid.T) {},
			"": func(t *rapid.T) {
				last := history[len(history)-1]
				now := last.view.Next(ps.read(t), at(1000+len(history)))
				content := ps.tags()
				if got := byName(now.Tags()); !reflect.DeepEqual(got, content) {
					t.Fatalf("view = %v, want %v", got, content)
				}
				if !slices.IsSortedFunc(now.Tags(), func(a, b view.Tag) int { return cmp.Compare(a.Name, b.Name) }) {
					t.Fatalf("tags are not sorted: %v", now.Tags())
				}
				moves := uint64(0)
				if !reflect.DeepEqual(content, last.content) || len(history) == 1 {
					moves = 1
				}
				if got, want := now.Version(), last.view.Version()+moves; got != want {
					t.Fatalf("version %d after %d, want %d: %v to %v", got, last.view.Version(), want, last.content, content)
				}
				for name := range last.content {
					if _, ok := content[name]; !ok {
						removals++
						break
					}
				}
				history = append(history, seen{now, slices.Clone(now.Tags()), content, removals})
				for _, then := range history {
					changes, ok := now.ChangesSince(then.view.Version())
					if want := then.removals == removals; ok != want {
						t.Fatalf("ChangesSince(%d) of version %d: %v, want %v", then.view.Version(), now.Version(), ok, want)
					}
					if ok {
						for _, tag := range changes {
							if tag.Version <= then.view.Version() {
								t.Fatalf("%v is no change since version %d", tag, then.view.Version())
							}
						}
						applied := maps.Clone(then.content)
						maps.Copy(applied, byName(changes))
						if !reflect.DeepEqual(applied, content) {
							t.Fatalf("version %d with the changes %v = %v, want %v", then.view.Version(), changes, applied, content)
						}
					}
					if !slices.Equal(then.view.Tags(), then.tags) {
						t.Fatalf("the view of version %d has changed: %v, was %v", then.view.Version(), then.view.Tags(), then.tags)
					}
				}
			},
		})
	})
}

// large returns a read of 55,000 tags in 16 partitions, and the next one, in which each partition has some changed tags.
func large(changed int) (before, after []store.PartitionTotals) {
	const partitions, tags = 16, 55_000
	for n := range uint32(partitions) {
		totals := make([]checkpoint.Total, 0, tags/partitions)
		for i := int(n); i < tags; i += partitions {
			// The hash that picks a partition spreads neighbours in the order of names, as the modulo does here.
			totals = append(totals, checkpoint.Total{Name: fmt.Sprintf("tag_%c%c%c%c", 'a'+i/17576, 'a'+i/676%26, 'a'+i/26%26, 'a'+i%26), Total: 7, Increments: 3, UpdatedAt: at(i)})
		}
		before = append(before, partition(n, 1, totals...))
		totals = slices.Clone(totals)
		for i := range changed {
			t := &totals[i*len(totals)/changed]
			t.Total, t.Increments, t.UpdatedAt = t.Total+5, t.Increments+1, at(100_000)
		}
		after = append(after, partition(n, 2, totals...))
	}
	return before, after
}

func BenchmarkNext(b *testing.B) {
	for _, changed := range []int{0, 1, 40, 400, 3437} {
		before, after := large(changed)
		if changed == 0 {
			after = before
		}
		v := new(view.View).Next(before, at(1))
		b.Run(fmt.Sprintf("55000 tags, %d changed in each of 16 partitions", changed), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				v.Next(after, at(2))
			}
		})
	}
	b.Run("first read of 55000 tags", func(b *testing.B) {
		before, _ := large(1)
		for b.Loop() {
			new(view.View).Next(before, at(1))
		}
	})
}

func BenchmarkChangesSince(b *testing.B) {
	before, after := large(400)
	v := new(view.View).Next(before, at(1)).Next(after, at(2))
	for b.Loop() {
		v.ChangesSince(1)
	}
}
