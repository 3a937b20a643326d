package recent_test

import (
	"testing"

	"github.com/accrue/accrue/pkg/recent"
)

func TestTheOldestKeyIsEvicted(t *testing.T) {
	t.Parallel()
	for size, kept := range map[int]int{3: 3, 1: 1, 0: 1} {
		s := recent.New[int](size)
		for key := range 8 {
			s.Add(key)
			for other := range 10 {
				if got, want := s.Has(other), other <= key && other > key-kept; got != want {
					t.Fatalf("after %d keys, a set of %d: Has(%d) = %v, want %v", key+1, size, other, got, want)
				}
			}
		}
	}
}
