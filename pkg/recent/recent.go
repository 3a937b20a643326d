// Package recent remembers the last keys of a sequence, so that repeats of them are recognized in bounded memory.
package recent

// Set is a bounded set of keys. When it is full, Add evicts the oldest key. It is not safe for concurrent use. New makes one.
type Set[K comparable] struct {
	keys  map[K]bool
	order []K // a ring
	next  int // the oldest, once the ring is full
}

// New returns an empty set of size keys at most, and of one if size is less.
func New[K comparable](size int) *Set[K] {
	return &Set[K]{keys: make(map[K]bool), order: make([]K, 0, max(1, size))}
}

// Has reports whether the set has a key.
func (s *Set[K]) Has(key K) bool { return s.keys[key] }

// Add adds a key that is not in the set.
func (s *Set[K]) Add(key K) {
	s.keys[key] = true
	if len(s.order) < cap(s.order) {
		s.order = append(s.order, key)
		return
	}
	delete(s.keys, s.order[s.next])
	s.order[s.next] = key
	s.next = (s.next + 1) % len(s.order)
}
