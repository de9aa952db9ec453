package trace

import (
	"slices"
	"strings"
	"time"

	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/hop"
)

// Path is the sightings of one packet, joined: where it went, and how it ended.
// The copies that a bridge makes of a packet are branches of one Path.
type Path struct {
	Number  uint64 // from 1, in the order of completion
	Steps   []Step // at least one; each after the one it comes from
	Verdict Verdict
	// End is the index of the step that the verdict is about: the last one that
	// delivered the packet, else the last that it left the lab by, else the last
	// one where it was seen.
	End int
	// Partial says that the packet was on its way before the first step: it came
	// from a place where it was not seen.
	Partial bool
	// GivenUp says that the Path was ended early because too many were open.
	GivenUp bool
	// Next are the hops that were to be expected after a LastSeen step. They are
	// the lab's and not to be changed.
	Next []hop.ID
}

// Duration returns the time from the first step to the End.
func (p *Path) Duration() time.Duration { return p.Since(p.End) }

// Since returns the time from the first step to step i.
func (p *Path) Since(i int) time.Duration {
	return time.Duration(p.Steps[i].TimeNS - p.Steps[0].TimeNS)
}

// Clone returns a copy that stays as it is.
func (p *Path) Clone() *Path {
	c := *p
	c.Steps = slices.Clone(p.Steps)
	return &c
}

// Step is one sighting of a Path.
type Step struct {
	collector.Sighting
	Prev    int           // index of the step it comes from; -1 for the first
	Delta   time.Duration // since Prev
	Match   Match         // how it was known to be Prev's packet
	Change  Change        // against Prev
	Verdict Verdict       // what happened here; LastSeen where it is not an end
}

// Verdict says how a Path ended.
type Verdict uint8

const (
	LastSeen  Verdict = iota // it was not seen again; why is not known
	LeftLab                  // by an uplink
	Delivered                // to a node that owns the destination
)

// String returns the verdict as JSON has it.
func (v Verdict) String() string {
	return [...]string{"last_seen", "left_lab", "delivered"}[v]
}

// Match says how a sighting was known to be of the same packet as the one before
// it, strongest first.
type Match uint8

const (
	MatchNone        Match = iota // it is the first
	MatchSkb                      // the same skb
	MatchHead                     // another skb with the same buffer: a copy
	MatchFingerprint              // the fields that no hop changes
)

// String returns the match as JSON has it; that of the first step is empty.
func (m Match) String() string { return [...]string{"", "skb", "head", "fingerprint"}[m] }

// Change is a set of what became different on the way from one step to the next.
type Change uint8

const (
	SNAT     Change = 1 << iota // the source, by address or port
	DNAT                        // the destination
	SNATBack                    // the destination of a reply, back to what it was before SNAT
	DNATBack                    // the source of a reply, back to what it was before DNAT
	EchoID                      // the id of an echo
	TTL                         // or hop limit
)

// Readdressed says whether addresses, ports or the echo's id changed.
func (c Change) Readdressed() bool { return c&^TTL != 0 }

// Words returns the translations by name: snat, dnat, snat-back, dnat-back.
func (c Change) Words() []string {
	var words []string
	for i, w := range [...]string{"snat", "dnat", "snat-back", "dnat-back"} {
		if c&(1<<i) != 0 {
			words = append(words, w)
		}
	}
	return words
}

// String returns the words, separated by spaces.
func (c Change) String() string { return strings.Join(c.Words(), " ") }

// changes returns what is different at to, against from. Which way a connection
// was translated is known only where conntrack's tuple came with the packet;
// elsewhere a new source is SNAT and a new destination is DNAT.
func changes(from, to *collector.Sighting) Change {
	var c Change
	p, q, o := &from.Packet, &to.Packet, &to.Orig
	reply := p.Src != o.Src || p.Dst != o.Dst
	if p.Src != q.Src || p.Sport != q.Sport {
		c |= SNAT
		if reply && o.Status&collector.ConnDNAT != 0 && q.Src == o.Dst {
			c ^= SNAT | DNATBack
		}
	}
	if p.Dst != q.Dst || p.Dport != q.Dport {
		c |= DNAT
		if reply && o.Status&collector.ConnSNAT != 0 && q.Dst == o.Src {
			c ^= DNAT | SNATBack
		}
	}
	if p.ICMPID != q.ICMPID {
		c |= EchoID
	}
	if p.TTL != q.TTL {
		c |= TTL
	}
	return c
}

// Totals counts what a [Joiner] has done. Paths is the sum of Delivered, LeftLab
// and LastSeen.
type Totals struct {
	Sightings uint64 // given, strays included
	Strays    uint64 // of hops that the lab does not have: in no Path
	Paths     uint64
	Delivered uint64
	LeftLab   uint64
	LastSeen  uint64
	GivenUp   uint64 // of Paths: ended early because too many were open
}

func (t *Totals) add(p *Path) {
	t.Paths++
	switch p.Verdict {
	case Delivered:
		t.Delivered++
	case LeftLab:
		t.LeftLab++
	case LastSeen:
		t.LastSeen++
	}
	if p.GivenUp {
		t.GivenUp++
	}
}
