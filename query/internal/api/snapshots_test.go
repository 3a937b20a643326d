package api

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/query/internal/view"
)

// after returns the view after v, in which every tag has changed.
func after(v *view.View, tags int) *view.View {
	totals := make([]checkpoint.Total, tags)
	for i := range totals {
		totals[i] = checkpoint.Total{Name: string([]byte{'a' + byte(i/676%26), 'a' + byte(i/26%26), 'a' + byte(i%26)}), Total: int64(v.Version())}
	}
	return v.Next([]store.PartitionTotals{{
		Revision: store.Revision{UpdateTime: time.Unix(int64(v.Version())+1, 0)}, Totals: totals,
	}}, time.Now())
}

// Who asks for the top every second must not push out what others are paging through.
func TestSnapshotsKeepWhatIsBeingPagedThrough(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s snapshots
		v := after(new(view.View), 10)
		paged := v.Version()
		s.of(v, byTotal)
		if _, _, ok := s.again(paged, byTotal); !ok {
			t.Fatal("a snapshot is gone at once")
		}
		for n := range 200 {
			time.Sleep(time.Second)
			v = after(v, 10)
			s.of(v, byTotal)
			if n%60 == 59 {
				if _, _, ok := s.again(paged, byTotal); !ok {
					t.Fatalf("the snapshot was pushed out by %d others", n)
				}
			}
			if len(s.kept) > maxSnapshots {
				t.Fatalf("%d snapshots are kept", len(s.kept))
			}
		}
		if _, _, ok := s.again(v.Version()-maxSnapshots+2, byTotal); !ok {
			t.Error("a snapshot was dropped before there were too many")
		}
		if _, _, ok := s.again(v.Version()-maxSnapshots, byTotal); ok {
			t.Error("an old snapshot that nobody pages through was kept before newer ones")
		}
		if _, _, ok := s.again(v.Version(), byUpdatedAt); ok {
			t.Error("found a snapshot in another order")
		}
	})
}

func TestSnapshotsAreBoundedByTheirTags(t *testing.T) {
	t.Parallel()
	var s snapshots
	v := after(new(view.View), 10)
	many := make([]view.Tag, maxSnapshotTags/2)
	for n := range 6 {
		s.mu.Lock()
		s.makeRoom(len(many))
		s.kept = append(s.kept, &snapshot{version: uint64(100 + n), tags: many, used: time.Now(), continued: n%2 == 0})
		s.tags += len(many)
		s.mu.Unlock()
		if s.tags > maxSnapshotTags {
			t.Fatalf("%d tags are kept", s.tags)
		}
	}
	s.of(v, byTotal) // makes room
	sum := 0
	for _, k := range s.kept {
		sum += len(k.tags)
	}
	if sum != s.tags || sum > maxSnapshotTags || len(s.kept) != 2 {
		t.Errorf("%d snapshots of %d tags are kept, accounted as %d", len(s.kept), sum, s.tags)
	}
}

func TestASnapshotIsSortedOncePerVersionAndOrder(t *testing.T) {
	t.Parallel()
	var s snapshots
	v := after(new(view.View), 100)
	first, _ := s.of(v, byTotal)
	again, _ := s.of(v, byTotal)
	if &first[0] != &again[0] {
		t.Error("sorted twice")
	}
	if other, _ := s.of(v, byUpdatedAt); &other[0] == &first[0] {
		t.Error("two orders share a snapshot")
	}
}

func FuzzTagToken(f *testing.F) {
	f.Add(byte(0), "fo", encodeTagToken(tagPageRequest{prefix: "fo"}, &tagPosition{name: "foo"}))
	f.Add(byte(3), "", encodeTagToken(tagPageRequest{order: 3}, &tagPosition{process: "p", version: 1 << 63, place: 7}))
	f.Add(byte(1), "", "")
	f.Fuzz(func(t *testing.T, order byte, prefix, token string) {
		request := tagPageRequest{prefix: prefix, order: tagOrder(order % 6)}
		position, err := decodeTagToken(request, token)
		if err != nil {
			return
		}
		again, err := decodeTagToken(request, encodeTagToken(request, position))
		if err != nil || *again != *position || position.place < 0 {
			t.Errorf("the token of %+v is of %+v, %v", position, again, err)
		}
		request.prefix += "x"
		if other, err := decodeTagToken(request, token); err == nil {
			t.Errorf("%q is of another prefix too: %+v", token, other)
		}
	})
}

func TestAcceptEncoding(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]bool{
		"": false, "gzip": true, "GZIP": true, "x-gzip": true, "br": false, "deflate, gzip;q=0.5": true, "gzip;q=0": false, "gzip; q=0.0": false,
		"*": true, "*;q=0": false, "gzip;q=0, *": false, "*, gzip;q=0": false, "*;q=0, gzip": true, "identity": false, "gzip;q=x": false,
		"gzipped": false, "br;q=1.0, gzip;q=0.8, *;q=0.1": true, "gzip ; Q=1": true,
	} {
		if got := acceptsGzip([]string{value}); got != want {
			t.Errorf("acceptsGzip(%q) = %v, want %v", value, got, want)
		}
	}
	if acceptsGzip(nil) || !acceptsGzip([]string{"br", "gzip"}) {
		t.Error("the lines of the header do not count as one list")
	}
}
