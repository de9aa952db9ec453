package trace

import "github.com/nsbpf/nsbpf/collector"

// maxTies bounds how many open Paths of the same fingerprint are looked at: with
// more identical packets on their way than that, the order of arrival says
// nothing any more.
const maxTies = 128

// find returns the open Path that s, which is at place at, is of, the step that
// it comes from and how that is known; a nil Path if s begins one.
func (j *Joiner) find(at *place, s *collector.Sighting) (o *open, prev int, m Match) {
	if !at.fed {
		return nil, -1, MatchNone
	}
	if j.config.Identity == Auto && s.Skb != 0 {
		o = j.skbs[s.Skb]
		if prev := j.upstream(o, s, MatchSkb); prev >= 0 {
			return o, prev, MatchSkb
		}
		if s.Head != 0 {
			h := j.heads[s.Head]
			if prev := j.upstream(h, s, MatchHead); prev >= 0 {
				return h, prev, MatchHead
			}
		}
		// The packet of an open Path, whose step before this was lost, is not
		// another one that looks the same.
		if o != nil && sameFields(&o.Steps[0].Sighting, s) && !o.visited(s.Hop) {
			return nil, -1, MatchNone
		}
	}
	if o, prev := j.oldestAlike(s); o != nil {
		return o, prev, MatchFingerprint
	}
	return nil, -1, MatchNone
}

// upstream returns the last step of o, which may be nil, that s can come from by
// that match, or -1.
func (j *Joiner) upstream(o *open, s *collector.Sighting, m Match) int {
	if o == nil || !sameFields(&o.Steps[0].Sighting, s) || o.visited(s.Hop) {
		return -1
	}
	for i := len(o.Steps) - 1; i >= 0; i-- {
		st := &o.Steps[i]
		if m == MatchSkb && st.Skb != s.Skb || m == MatchHead && st.Head != s.Head {
			continue
		}
		if st.TimeNS <= s.TimeNS && j.graph.follows(st.Hop, s.Hop) && !answers(&st.Sighting, s) {
			return i
		}
	}
	return -1
}

// oldestAlike returns the oldest open Path of s's fingerprint that waits at a
// hop before s's, and that step. If there is none, s may be one more copy made
// by a bridge: then it is the oldest Path that went on from such a hop already.
func (j *Joiner) oldestAlike(s *collector.Sighting) (*open, int) {
	var copied *open
	from := -1
	t := j.prints[fingerprint(s)]
	for _, l := range [...]list{t.waiting, t.done} {
		o := l.first
		for tries := 0; o != nil && tries < maxTies; tries++ {
			i := j.before(o, s)
			if i >= 0 && !o.left[i] {
				return o, i
			}
			if i >= 0 && copied == nil {
				copied, from = o, i
			}
			o = o.alike.next
		}
	}
	return copied, from
}

// before returns the step of o that s can come from by fingerprint and addresses,
// one that waits if there is one, or -1.
func (j *Joiner) before(o *open, s *collector.Sighting) int {
	if !sameFingerprint(&o.Steps[0].Sighting, s) || o.visited(s.Hop) {
		return -1
	}
	went := -1
	for i := len(o.Steps) - 1; i >= 0; i-- {
		st := &o.Steps[i]
		if st.TimeNS > s.TimeNS || !j.graph.follows(st.Hop, s.Hop) || !sameEnds(&st.Sighting, s) {
			continue
		}
		if !o.left[i] {
			return i
		}
		if went < 0 {
			went = i
		}
	}
	return went
}
