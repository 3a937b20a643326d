package load

import (
	"slices"
	"testing"
)

func TestCompare(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		accepted, unknown int64
		before, after     map[string]int64
		want              []difference
	}{
		"exact":                {5, 0, map[string]int64{"foo": 1}, map[string]int64{"foo": 6}, nil},
		"a new tag":            {5, 0, nil, map[string]int64{"foo": 5}, nil},
		"one too few":          {5, 0, map[string]int64{"foo": 1}, map[string]int64{"foo": 5}, []difference{{"foo", 4, 5, 0}}},
		"one too many":         {5, 0, nil, map[string]int64{"foo": 6}, []difference{{"foo", 6, 5, 0}}},
		"not there":            {5, 0, nil, nil, []difference{{"foo", 0, 5, 0}}},
		"unknown, not counted": {5, 3, nil, map[string]int64{"foo": 5}, nil},
		"unknown, counted":     {5, 3, nil, map[string]int64{"foo": 8}, nil},
		"unknown, twice":       {5, 3, nil, map[string]int64{"foo": 9}, []difference{{"foo", 9, 5, 3}}},
		"unknown, and too few": {5, 3, nil, map[string]int64{"foo": 4}, []difference{{"foo", 4, 5, 3}}},
		"a stranger":           {0, 0, map[string]int64{"bar": 1}, map[string]int64{"bar": 1}, nil},
		"a stranger that grew": {0, 0, nil, map[string]int64{"bar": 2}, []difference{{"bar", 2, 0, 0}}},
		"a stranger that went": {0, 0, map[string]int64{"bar": 2}, nil, []difference{{"bar", -2, 0, 0}}},
		"sorted": {
			1, 0, map[string]int64{"goo": 0}, map[string]int64{"goo": 1, "bar": 1},
			[]difference{{"bar", 1, 0, 0}, {"foo", 0, 1, 0}, {"goo", 1, 0, 0}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLedger()
			foo := l.tag([]byte("foo"))
			foo.accepted.Add(tc.accepted)
			foo.unknown.Add(tc.unknown)
			if got := l.compare(tc.before, tc.after); !slices.Equal(got, tc.want) {
				t.Errorf("compare() = %+v, want %+v", got, tc.want)
			}
		})
	}
}

func TestDifferencesShowTheError(t *testing.T) {
	t.Parallel()
	for want, d := range map[string]difference{
		"foo: counted 4, accepted 5 (-1)":                      {"foo", 4, 5, 0},
		"foo: counted 6, accepted 5 (+1)":                      {"foo", 6, 5, 0},
		"foo: counted 4, accepted 5 and possibly 3 more (-1)":  {"foo", 4, 5, 3},
		"foo: counted 10, accepted 5 and possibly 3 more (+2)": {"foo", 10, 5, 3},
	} {
		if got := d.String(); got != want {
			t.Errorf("String() = %q, want %q", got, want)
		}
	}
}
