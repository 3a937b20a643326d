package logging

import "time"

// SummaryInterval is the least time between two lines on what happens again and again.
const SummaryInterval = 10 * time.Second

// summary decides which of many occurrences are told: the first one at once, and then one in SummaryInterval, with how
// many there were since the last that was told. Its owner guards it.
type summary struct {
	toldAt time.Time
	untold int64
}

// occurred counts an occurrence, and returns how many the line should tell of: none if it is not time for one.
func (s *summary) occurred(now time.Time) (tell int64) {
	s.untold++
	if !s.toldAt.IsZero() && now.Sub(s.toldAt) < SummaryInterval {
		return 0
	}
	tell = s.untold
	s.untold, s.toldAt = 0, now
	return tell
}
