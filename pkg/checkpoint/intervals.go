package checkpoint

import "slices"

// Interval is the sequences from First to Last, inclusive.
type Interval struct{ First, Last uint64 }

// Intervals is a set of sequences as sorted intervals with a gap between any two. It usually has one interval. Each gap, from a
// failed publish or a message that has not arrived, adds one.
type Intervals []Interval

// Contains reports whether sequence n is in the set.
func (s Intervals) Contains(n uint64) bool {
	i := s.search(n)
	return i < len(s) && s[i].First <= n
}

// Add returns the set with n in it. It may change s in place, as append does.
func (s Intervals) Add(n uint64) Intervals {
	i := s.search(n)
	if i < len(s) && s[i].First <= n {
		return s
	}
	// n lies in the gap before s[i], above s[i-1].Last and below s[i].First, so neither n-1 nor n+1 can overflow.
	joinsLeft := i > 0 && s[i-1].Last == n-1
	joinsRight := i < len(s) && s[i].First == n+1
	switch {
	case joinsLeft && joinsRight:
		s[i-1].Last = s[i].Last
		return slices.Delete(s, i, i+1)
	case joinsLeft:
		s[i-1].Last = n
		return s
	case joinsRight:
		s[i].First = n
		return s
	default:
		return slices.Insert(s, i, Interval{n, n})
	}
}

// search returns the index of the first interval that does not end before n.
func (s Intervals) search(n uint64) int {
	if l := len(s); l > 0 && s[l-1].Last < n { // the usual case: sequences arrive in rising order
		return l
	}
	i, _ := slices.BinarySearchFunc(s, n, func(iv Interval, n uint64) int {
		if iv.Last < n {
			return -1
		}
		return 1
	})
	return i
}
