package trace

import (
	"slices"

	"github.com/nsbpf/nsbpf/collector"
)

// sender is one end of a TCP connection, at the hop where its Paths begin.
type sender struct {
	flow
	hop uint16
}

// senders remember what each sent, so that what is sent again is known. Those
// that were heard of the longest time ago are forgotten, half of them at once.
type senders struct {
	recent, older map[sender]*sent
	most          int
	forgot        *uint64
}

// attempt returns how often the segment s, which begins Path number path, has
// been sent, this time included, and the Path of the time before, 0 if it is not
// known. What is no segment is sent once: an acknowledgement without payload, or
// a keep-alive.
func (ss *senders) attempt(s *collector.Sighting, path uint64) (n int, again uint64) {
	if !isSegment(s) {
		return 1, 0
	}
	g := segmentOf(s)
	g.path = path
	h := ss.of(sender{flowOf(s), s.Hop})
	if s.Packet.TCPFlags&flagSYN != 0 && (!h.opened || h.isn != g.start) {
		*h = sent{opened: true, isn: g.start} // the ports are used again
	}
	return h.take(g)
}

func (ss *senders) of(k sender) *sent {
	if h := ss.recent[k]; h != nil {
		return h
	}
	h := ss.older[k]
	if h == nil {
		h = &sent{}
	} else {
		delete(ss.older, k)
	}
	if len(ss.recent) >= max(ss.most/2, 1) {
		*ss.forgot += uint64(len(ss.older))
		ss.recent, ss.older = make(map[sender]*sent), ss.recent
	}
	ss.recent[k] = h
	return h
}

// Flags of TCP.
const (
	flagFIN = 0x01
	flagSYN = 0x02
	flagRST = 0x04
	flagPSH = 0x08
	flagCWR = 0x80
)

// segment is what a sender sent at once: sequence numbers from start to before
// end.
type segment struct {
	run
	probe   bool // a byte alone: it may be a keep-alive
	attempt int
	path    uint64
}

// isSegment says whether s sends something that is sent again until it is
// acknowledged.
func isSegment(s *collector.Sighting) bool {
	p := &s.Packet
	if p.Proto != collector.ProtoTCP || p.PayloadOff == 0 || s.IsShort() || s.IsFragment() || p.TCPFlags&flagRST != 0 {
		return false
	}
	return p.TCPFlags&(flagSYN|flagFIN) != 0 || sentBytes(s) > 0
}

// sentBytes is payload without what may be padding.
func sentBytes(s *collector.Sighting) uint32 {
	if s.Packet.Len <= minFrame {
		return 0
	}
	return payload(s)
}

// segmentOf returns what s sends.
func segmentOf(s *collector.Sighting) segment {
	p := &s.Packet
	n := sentBytes(s)
	probe := n == 1
	for _, flag := range [...]uint8{flagSYN, flagFIN} {
		if p.TCPFlags&flag != 0 {
			n++
			probe = false
		}
	}
	return segment{run: run{p.Seq, p.Seq + n}, probe: probe, attempt: 1}
}

// run is sequence numbers from start to before end. They wrap (RFC 9293, 3.4).
type run struct{ start, end uint32 }

// before says whether sequence number a is less than b.
func before(a, b uint32) bool { return int32(a-b) < 0 }

func (r run) overlaps(q run) bool { return before(r.start, q.end) && before(q.start, r.end) }
func (r run) touches(q run) bool  { return !before(q.end, r.start) && !before(r.end, q.start) }

// sent is what a sender is known to have sent. What is between two runs was not
// seen: it is sent for the first time when it comes late.
type sent struct {
	runs   [4]run // of these n: ascending, with gaps between them
	n      int
	isn    uint32 // the SYN's number
	opened bool   // the SYN was seen

	latest [8]segment // the last ones, a ring
	next   int
	again  []segment // likewise, those that were sent again
}

// mostAgain bounds the retransmissions that are remembered of a sender.
const mostAgain = 16

// take adds g, and returns which attempt it is and the Path of the one before.
func (h *sent) take(g segment) (int, uint64) {
	last := &h.runs[max(h.n-1, 0)]
	switch {
	case h.n > 0 && g.start == last.end:
		last.end = g.end
		last.start = later(last.start, g.end-longest)
	case h.overlaps(g.run):
		if h.isKeepAlive(g) {
			return 1, 0
		}
		return h.repeat(g)
	default:
		h.add(g.run)
	}
	h.latest[h.next%len(h.latest)] = g
	h.next++
	return 1, 0
}

// longest is how far back a run goes: of what is older, it cannot be told any
// more whether it is before or after.
const longest = 1 << 30

func later(a, b uint32) uint32 {
	if before(a, b) {
		return b
	}
	return a
}

func (h *sent) overlaps(r run) bool {
	return slices.ContainsFunc(h.runs[:h.n], r.overlaps)
}

// isKeepAlive says whether g is the last byte alone, which was not sent alone.
func (h *sent) isKeepAlive(g segment) bool {
	return g.probe && g.end == h.runs[h.n-1].end && !slices.ContainsFunc(h.latest[:], func(l segment) bool {
		return l.run == g.run
	})
}

// repeat adds g, of which some was sent was.
func (h *sent) repeat(g segment) (int, uint64) {
	var was segment
	for _, segments := range [...][]segment{h.latest[:], h.again} {
		for _, l := range segments {
			if l.overlaps(g.run) && l.attempt >= was.attempt {
				was = l
			}
		}
	}
	g.attempt = max(was.attempt, 1) + 1
	h.add(g.run)
	if len(h.again) == mostAgain {
		h.again = slices.Delete(h.again, 0, 1)
	}
	h.again = append(h.again, g)
	return g.attempt, was.path
}

// add makes r part of the runs. Of too many the first is forgotten.
func (h *sent) add(r run) {
	var runs [len(h.runs) + 1]run
	n, at := 0, -1
	for _, q := range h.runs[:h.n] {
		switch {
		case q.touches(r):
			if before(q.start, r.start) {
				r.start = q.start
			}
			r.end = later(q.end, r.end)
			continue
		case at < 0 && before(r.end, q.start):
			at = n
			n++
		}
		runs[n] = q
		n++
	}
	if at < 0 {
		at = n
		n++
	}
	runs[at] = r
	h.n = min(n, len(h.runs))
	copy(h.runs[:], runs[n-h.n:n])
}
