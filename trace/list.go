package trace

import "time"

// link is an open Path's place in a list, one for each that it can be in.
type link struct{ prev, next *open }

// list is a doubly linked list through one of the links of its elements.
type list struct{ first, last *open }

func byTime(o *open) *link  { return &o.when }
func byPrint(o *open) *link { return &o.alike }
func byLane(o *open) *link  { return &o.beside }

func (l *list) push(o *open, of func(*open) *link) {
	*of(o) = link{prev: l.last}
	if l.last == nil {
		l.first = o
	} else {
		of(l.last).next = o
	}
	l.last = o
}

// insert puts o behind after, or first if that is nil.
func (l *list) insert(o, after *open, of func(*open) *link) {
	if after == l.last {
		l.push(o, of)
		return
	}
	next := l.first
	if after != nil {
		next = of(after).next
		of(after).next = o
	} else {
		l.first = o
	}
	*of(o) = link{prev: after, next: next}
	of(next).prev = o
}

func (l *list) remove(o *open, of func(*open) *link) {
	k := of(o)
	if k.prev == nil {
		l.first = k.next
	} else {
		of(k.prev).next = k.next
	}
	if k.next == nil {
		l.last = k.prev
	} else {
		of(k.next).prev = k.prev
	}
	*k = link{}
}

// queue is open Paths by when they were last seen. One that is seen again stays
// where it is, and moves when its turn comes: that is not far, and most are gone
// by then.
type queue struct{ list }

func (q *queue) push(o *open) {
	o.queued = o.last
	q.list.push(o, byTime)
}

func (q *queue) remove(o *open) { q.list.remove(o, byTime) }

// oldest returns the Path that was not seen for the longest time, or nil.
func (q *queue) oldest() *open {
	for o := q.first; o != nil; o = q.first {
		if o.queued == o.last {
			return o
		}
		var after *open
		for next := o.when.next; next != nil && next.queued <= o.last; next = next.when.next {
			after = next
		}
		q.remove(o)
		o.queued = o.last
		q.insert(o, after, byTime)
	}
	return nil
}

// due returns the oldest Path if it was not seen for so long until now.
func (q *queue) due(now uint64, wait time.Duration) *open {
	if q.first == nil || now-q.first.queued < uint64(wait) {
		return nil
	}
	if o := q.oldest(); now-o.last >= uint64(wait) {
		return o
	}
	return nil
}
