package diff

import (
	"cmp"
	"slices"
)

// Change is what is different in the second recording. The worst is the least.
type Change uint8

const (
	DropNew     Change = iota // packets are dropped as none were
	DropMore                  // more of them are
	DropMoved                 // those of a flow are dropped elsewhere, or why
	EdgeGone                  // no packet goes over the edge any more
	NATGone                   // packets are not translated any more
	NATChanged                // otherwise
	ResentMore                // more TCP segments are sent again
	Slower                    // an edge takes longer
	NATNew                    // packets are translated that were not
	EdgeNew                   // packets go over an edge as none did
	Faster                    // an edge takes less time
	ResentFewer               // fewer TCP segments are sent again
	DropFewer                 // fewer packets are dropped
	DropGone                  // none are any more
)

var changeNames = [...]string{
	"drop_new", "drop_more", "drop_moved", "edge_gone", "nat_gone", "nat_changed", "resent_more", "slower",
	"nat_new", "edge_new", "faster", "resent_fewer", "drop_fewer", "drop_gone",
}

// String returns the change as JSON has it.
func (c Change) String() string { return changeNames[c] }

// Worse says that the change is one that nobody wants; that an edge or a translation
// is new is neither good nor bad.
func (c Change) Worse() bool { return c <= Slower }

// Better says that the change is one that all want.
func (c Change) Better() bool { return c >= Faster }

// Doubt says why it is not certain that something changed.
type Doubt uint8

const (
	Certain Doubt = iota
	// Chance: so few packets say so that it is likely to be seen in two recordings of
	// the same traffic, given how much is compared.
	Chance
	// Absent: none of the packets that went that way are in the other recording.
	Absent
	// Incomplete: it is missing in a recording that lost events, or was cut off, or its
	// packets were last seen there.
	Incomplete
)

// String returns the doubt as JSON has it; that of what is certain is empty.
func (d Doubt) String() string { return [...]string{"", "chance", "absent", "incomplete"}[d] }

// Share is how many of how many packets.
type Share struct{ N, Of uint64 }

// Finding is something that is different in the second recording, b.
type Finding struct {
	Change Change
	Doubt  Doubt
	// Edge is the edge that is new, gone, slower or faster.
	Edge Edge
	// Kinds are the kinds of packets that the edge is new to, or gone for.
	Kinds []Kind
	// NotInLab says that a lab has no such edge: of an edge that is gone that of b, of
	// a new one that of a.
	NotInLab bool
	// Was and Is are the outcomes in a and b, of a drop and of a translation.
	Was, Is Outcome
	// Flows are those that it happened to, in order; those of an edge went over it.
	Flows []Flow
	// A and B are how many packets of the flows it was, Was or Is in each recording.
	A, B Share
	// Time is of what is slower or faster.
	Time *Time
	// P is how likely at least one finding like this is by chance, if nothing changed:
	// corrected for all that was compared.
	P float64
}

// Time is how long the packets of a kind took over an edge, or from end to end, in
// both recordings.
type Time struct {
	Edge Edge
	Kind Kind
	// Whole says that From and To are the ends of packets' ways.
	Whole bool
	// Count is how many packets there were. Median is in ns.
	Count  [2]uint64
	Median [2]float64
	// Ratio is that of the medians, b's to a's, and Low and High are the bounds of its
	// 95 % interval.
	Ratio, Low, High float64
	P                float64 // as in Finding
}

// compareFindings puts the worst first: by the change, then by how much.
func compareFindings(f, g Finding) int {
	return cmp.Or(cmp.Compare(f.Change, g.Change), cmp.Compare(g.size(), f.size()), cmp.Compare(f.P, g.P),
		compareEdges(f.Edge, g.Edge), compareOutcomes(f.Was, g.Was), compareOutcomes(f.Is, g.Is),
		slices.CompareFunc(f.Flows, g.Flows, compareFlows))
}

// size is how much of it there is.
func (f Finding) size() float64 {
	if f.Time != nil {
		return max(f.Time.Ratio, 1/f.Time.Ratio)
	}
	return float64(max(f.A.N, f.B.N))
}

func compareEdges(a, b Edge) int {
	return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
}

func compareKinds(a, b Kind) int {
	return cmp.Or(cmp.Compare(a.EtherType, b.EtherType), cmp.Compare(a.Proto, b.Proto))
}

func compareFlows(a, b Flow) int {
	reply := func(f Flow) int {
		if f.Reply {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(a.Origin, b.Origin), compareKinds(a.Kind, b.Kind), a.Peer.Compare(b.Peer),
		cmp.Compare(reply(a), reply(b)), cmp.Compare(a.ICMPType, b.ICMPType), cmp.Compare(a.ICMPCode, b.ICMPCode))
}
