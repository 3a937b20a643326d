package api

import "time"

// A day of a time zone begins with the first hour of UTC that begins in it, since older changes are kept by the hour. In a zone
// that is half an hour off, that is half an hour after midnight.

// dayOf numbers the days of a time zone.
func dayOf(t time.Time, zone *time.Location) int64 {
	year, month, day := t.In(zone).Date()
	return time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Unix() / int64(24*time.Hour/time.Second)
}

// beginOfDay returns when a day of a time zone begins.
func beginOfDay(day int64, zone *time.Location) time.Time {
	// Midnight of UTC is at most 14 hours before or 12 hours after that of the zone. A clock that is put forward or back at
	// midnight has none, or two of them.
	t := time.Unix(day*int64(24*time.Hour/time.Second), 0).UTC().Add(-16 * time.Hour)
	for dayOf(t, zone) < day {
		t = t.Add(time.Hour)
	}
	return t
}

// dayAt returns the day that a time is in. Shortly after midnight, in a zone that is half an hour off, that is the one before.
func dayAt(t time.Time, zone *time.Location) int64 {
	day := dayOf(t, zone)
	if t.Before(beginOfDay(day, zone)) {
		day--
	}
	return day
}

// daysBetween returns the beginnings of the whole days that have a part between two times and do not begin before the oldest
// hour that is kept, and the end of the last one.
func daysBetween(from, to, oldest time.Time, zone *time.Location) (days []time.Time, end time.Time) {
	day := dayAt(from, zone)
	for beginOfDay(day, zone).Before(oldest) {
		day++
	}
	for end = beginOfDay(day, zone); end.Before(to); end = beginOfDay(day, zone) {
		days = append(days, end)
		day++
	}
	return days, end
}
