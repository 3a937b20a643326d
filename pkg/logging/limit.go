package logging

import "time"

// SummaryInterval is the minimum time between two lines about a repeated event.
const SummaryInterval = 10 * time.Second

// limit allows a line for the first of many occurrences, and then one per SummaryInterval, with the number of occurrences
// since the line before. It is not safe for concurrent use.
type limit struct {
	loggedAt   time.Time
	suppressed int64
}

// occurred counts an occurrence and returns the number to log now, or 0 if it is too early for another line.
func (l *limit) occurred(now time.Time) (n int64) {
	l.suppressed++
	if !l.loggedAt.IsZero() && now.Sub(l.loggedAt) < SummaryInterval {
		return 0
	}
	n = l.suppressed
	l.suppressed, l.loggedAt = 0, now
	return n
}
