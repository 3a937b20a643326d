package names_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accrue/accrue/ingest/internal/names"
)

func TestTakesTheNamesOfItsList(t *testing.T) {
	t.Parallel()
	n := names.New([]string{"foo", "page_*", "*_total"}, 0)
	for name, want := range map[string]bool{
		"foo": true, "page_": true, "page_home": true, "errors_total": true, "food": false, "homepage_x": false, "total": false,
	} {
		if err := n.Allowed(name); (err == nil) != want || err != nil && !errors.Is(err, names.ErrNotAllowed) {
			t.Errorf("Allowed(%s) = %v, want %v", name, err, want)
		}
	}
	if err := names.New(nil, 5).Allowed("any"); err != nil {
		t.Errorf("Allowed() without a list = %v", err)
	}
	if err := names.New(nil, 0).Allowed("any"); err != nil {
		t.Errorf("Allowed() of none = %v", err)
	}
}

func TestTakesSoManyNewNamesAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := names.New(nil, 60)
		admit := func(all ...string) error { return n.Admit(slices.Values(all)) }
		var first []string
		for i := range 60 {
			first = append(first, fmt.Sprint("first", i))
		}
		if err := admit(first...); err != nil {
			t.Fatal(err)
		}
		if err := admit(append(first, first...)...); err != nil {
			t.Errorf("known names are refused: %v", err)
		}
		var many *names.TooManyError
		if err := admit("first0", "new", "new", "newer"); !errors.As(err, &many) || !errors.Is(err, names.ErrTooMany) || many.New != 2 || many.RetryAfter != 2*time.Second {
			t.Fatalf("Admit() of two new names = %v, want 2 and a pause of 2 s", err)
		}
		time.Sleep(many.RetryAfter)
		if err := admit("new", "newer"); err != nil {
			t.Errorf("Admit() after the pause = %v", err)
		}
		if err := admit("newest"); err == nil {
			t.Error("one more is admitted")
		}
		var all []string
		for i := range 61 {
			all = append(all, fmt.Sprint("all", i))
		}
		time.Sleep(time.Hour)
		if err := admit(all...); !errors.As(err, &many) || many.New != 61 {
			t.Errorf("Admit() of more than a minute's = %v", err)
		}
	})
}

// The names that are remembered are bounded, and those in use stay.
func TestRememberedNamesAreBounded(t *testing.T) {
	t.Parallel()
	n := names.New(nil, 1_000_000)
	for i := range 300_000 {
		if err := n.Admit(slices.Values([]string{"known", fmt.Sprint(i)})); err != nil {
			t.Fatal(err)
		}
	}
	if held := n.Held(); held > 200_001 {
		t.Errorf("%d names are remembered", held)
	}
	if n.IsNew("known") || !n.IsNew("0") {
		t.Error("a name in use is forgotten, or an old one is not")
	}
}

func TestPatterns(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string]bool{"foo": true, "*": true, "a_*": true, "": false, "Foo": false, "a[b]": false, "a b": false, "ä": false} {
		if got := names.ValidPattern(pattern); got != want {
			t.Errorf("ValidPattern(%q) = %v", pattern, got)
		}
	}
}
