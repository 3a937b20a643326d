package delivery

import "time"

// Leases are the deliveries that are held, in the order in which their leases are due to be extended. The zero value holds
// none. It is not safe for concurrent use.
type Leases struct {
	first, last *Delivery
	held        int
}

// Hold adds d, whose lease is due at a time that is not before those of the others, or long past: then it is the first to
// be due.
func (l *Leases) Hold(d *Delivery, extendAt time.Time) {
	d.extendAt, d.leased = extendAt, true
	l.held++
	if l.first == nil || !extendAt.After(l.first.extendAt) {
		d.prev, d.next = nil, l.first
	} else {
		d.prev, d.next = l.last, nil
	}
	l.link(d)
}

// End takes d off. It returns false if d is not held, or not any more.
func (l *Leases) End(d *Delivery) bool {
	if !d.leased {
		return false
	}
	d.leased = false
	l.held--
	l.unlink(d)
	return true
}

// Due returns the deliveries whose leases are due at a time, most of them at most. They stay due until Extended.
func (l *Leases) Due(now time.Time, most int) []*Delivery {
	var due []*Delivery
	for d := l.first; d != nil && !d.extendAt.After(now) && len(due) < most; d = d.next {
		due = append(due, d)
	}
	return due
}

// Extended notes that the lease of d, if it is still held, was extended and is next due at a time.
func (l *Leases) Extended(d *Delivery, extendAt time.Time) {
	if l.End(d) {
		l.Hold(d, extendAt)
	}
}

// All returns everything that is held.
func (l *Leases) All() []*Delivery {
	all := make([]*Delivery, 0, l.held)
	for d := l.first; d != nil; d = d.next {
		all = append(all, d)
	}
	return all
}

// Held is the number of deliveries that are held.
func (l *Leases) Held() int { return l.held }

// link makes the neighbours of d, or the ends of the list, point at d.
func (l *Leases) link(d *Delivery) {
	if d.prev == nil {
		l.first = d
	} else {
		d.prev.next = d
	}
	if d.next == nil {
		l.last = d
	} else {
		d.next.prev = d
	}
}

// unlink makes them point past it.
func (l *Leases) unlink(d *Delivery) {
	if d.prev == nil {
		l.first = d.next
	} else {
		d.prev.next = d.next
	}
	if d.next == nil {
		l.last = d.prev
	} else {
		d.next.prev = d.prev
	}
	d.prev, d.next = nil, nil
}
