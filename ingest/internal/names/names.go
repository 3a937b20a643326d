// Package names restricts the tags that ingest accepts to a list, and the rate of new ones. A flood of random names fills
// checkpoints, and then wanted new tags are rejected.
package names

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxSeen bounds the names that are remembered, in each of two generations.
const maxSeen = 100_000

var (
	// ErrNotAllowed is returned by Allowed for a name that is not in the list.
	ErrNotAllowed = errors.New("must be one of the tags that this server takes")
	// ErrTooMany is wrapped by the errors of Admit.
	ErrTooMany = errors.New("too many new tags")
)

// TooManyError is returned by Admit. It matches ErrTooMany.
type TooManyError struct {
	// New is the number of new names, and PerMinute the limit.
	New, PerMinute int
	// RetryAfter is the time after which they may be admitted.
	RetryAfter time.Duration
}

func (e *TooManyError) Error() string {
	return fmt.Sprintf("%d new tags, where %d a minute are taken", e.New, e.PerMinute)
}

// Is reports whether target is ErrTooMany.
func (e *TooManyError) Is(target error) bool { return target == ErrTooMany }

// Names decides which names are accepted. It is safe for concurrent use. A nil Names accepts all.
type Names struct {
	allowed  map[string]bool
	patterns []string

	perMinute int
	limiter   *rate.Limiter
	mu        sync.Mutex
	// seen are the names that were admitted last, and before those that were before.
	seen, before map[string]struct{}
}

// New returns Names that accepts the names of a list, in which * matches any characters, and perMinute new ones per minute. An
// empty list accepts any name, and perMinute 0 any number.
func New(list []string, perMinute int) *Names {
	if len(list) == 0 && perMinute == 0 {
		return nil
	}
	n := &Names{allowed: make(map[string]bool), perMinute: perMinute, seen: make(map[string]struct{})}
	for _, name := range list {
		if strings.Contains(name, "*") {
			n.patterns = append(n.patterns, name)
		} else {
			n.allowed[name] = true
		}
	}
	if perMinute > 0 {
		n.limiter = rate.NewLimiter(rate.Every(time.Minute/time.Duration(perMinute)), perMinute)
	}
	return n
}

// ValidPattern reports whether a name or pattern can match a tag.
func ValidPattern(pattern string) bool {
	return pattern != "" && strings.IndexFunc(pattern, func(r rune) bool { return (r < 'a' || r > 'z') && r != '_' && r != '*' }) < 0
}

// Allowed returns ErrNotAllowed for a valid name that is not in the list.
func (n *Names) Allowed(name string) error {
	if n == nil || len(n.allowed) == 0 && len(n.patterns) == 0 || n.allowed[name] {
		return nil
	}
	for _, pattern := range n.patterns {
		if matches, err := path.Match(pattern, name); err == nil && matches {
			return nil
		}
	}
	return ErrNotAllowed
}

// Admit admits all names or none. Names that were admitted before do not count towards the limit. The error is a *TooManyError.
func (n *Names) Admit(names func(yield func(string) bool)) error {
	if n == nil || n.limiter == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	var fresh map[string]struct{}
	for name := range names {
		if _, known := n.seen[name]; known {
			continue
		}
		if _, known := n.before[name]; known {
			n.add(strings.Clone(name))
			continue
		}
		if fresh == nil {
			fresh = make(map[string]struct{})
		}
		fresh[name] = struct{}{}
	}
	if len(fresh) == 0 {
		return nil
	}
	now := time.Now()
	if !n.limiter.AllowN(now, len(fresh)) {
		e := &TooManyError{New: len(fresh), PerMinute: n.perMinute, RetryAfter: time.Minute}
		if missing := float64(len(fresh)) - n.limiter.TokensAt(now); len(fresh) <= n.perMinute {
			e.RetryAfter = time.Duration(missing / float64(n.limiter.Limit()) * float64(time.Second))
		}
		return e
	}
	for name := range fresh {
		n.add(strings.Clone(name)) // a name is a part of a body
	}
	return nil
}

func (n *Names) add(name string) {
	if len(n.seen) >= maxSeen {
		n.seen, n.before = make(map[string]struct{}), n.seen
	}
	n.seen[name] = struct{}{}
}
