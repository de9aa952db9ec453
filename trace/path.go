package trace

import (
	"slices"
	"time"

	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/hop"
)

// Path is the sightings of one packet, joined: where it went, and how it ended.
// The copies that a bridge makes of a packet are branches of one Path, and so are
// the pieces that it is cut into: the segments of a GSO packet, and the fragments
// of a datagram, which may be cut before they are first seen.
type Path struct {
	Number uint64 // from 1, in the order of the first sightings
	// Steps are at least one, each behind the one it comes from. A packet that the
	// kernel dropped before it came to any hop has one that is at [hop.None]: it as
	// it was then.
	Steps   []Step
	Verdict Verdict
	// End is the index of the step that the verdict is about: the last one that
	// delivered the packet, else the last that it left the lab by, else the last
	// one where it was seen, or where a piece was that is Missing.
	End int
	// Payload is what the packet carries, in bytes, with what other packets were
	// merged into it. It is 0 of a packet that cannot be cut.
	Payload uint32
	// Missing is how many bytes of a PartlyDelivered packet came to no end. It is 0
	// if that is not known because its last fragment was not seen.
	Missing uint32
	Merges  []Merge // where pieces went on in other Paths
	// Partial says that the packet was on its way before the first step: it came
	// from a place where it was not seen.
	Partial bool
	// Attempt says how often the segment was sent: 2 is the first retransmission of
	// a TCP segment by its sender. It is 1 of every other packet.
	Attempt int
	// Again is the number of the Path of the attempt before, and 0 if that is not
	// known.
	Again uint64
	// GivenUp says that the Path was ended early because too much was open.
	GivenUp bool
	// DroppedBy is the ID of the [Filter] that dropped the packet, at DroppedAt; 0 if
	// it was none that is known. It stands where the packet was seen last, or before
	// the next hop sees it.
	DroppedBy int
	DroppedAt hop.ID
	// Drops are what the kernel dropped of it, in the order of time: its copies and
	// pieces are dropped one by one.
	Drops []Drop
	// Round says that the packet came to a hop again where it had been, by another
	// round through the lab; RoundAt is the hop, and Round the number of the Path that
	// has what followed. 0: it did not.
	Round   uint64
	RoundAt hop.ID
	// After is the number of the Path that a Path goes on from in this way; 0: none.
	After uint64
	// Late is the number of an earlier Path that ended LastSeen, if this one is only
	// the kernel's word of how that ended.
	Late uint64
	// Passages are where it came in netfilter, in the order of time.
	Passages []Passage
	// Rulings are what nft's rules said of it, in the order of arrival.
	Rulings []Ruling
	// Next are the hops that were to be expected after a step that was LastSeen or
	// Dropped. They are the lab's and not to be changed.
	Next []hop.ID
}

// Duration returns the time from the first step to the End.
func (p *Path) Duration() time.Duration { return p.Since(p.End) }

// Since returns the time from the first step to step i.
func (p *Path) Since(i int) time.Duration {
	return time.Duration(p.Steps[i].TimeNS - p.Steps[0].TimeNS)
}

// InPieces says whether some step carries less than the packet, or more.
func (p *Path) InPieces() bool {
	for i := range p.Steps {
		if p.Steps[i].Length != p.Payload {
			return true
		}
	}
	return false
}

// Clone returns a copy that stays as it is.
func (p *Path) Clone() *Path {
	c := *p
	c.Steps = slices.Clone(p.Steps)
	c.Merges = slices.Clone(p.Merges)
	c.Drops = slices.Clone(p.Drops)
	c.Passages = slices.Clone(p.Passages)
	c.Rulings = slices.Clone(p.Rulings)
	return &c
}

// Step is one sighting of a Path.
type Step struct {
	collector.Sighting
	Piece // what it carries of the packet
	// Prev is the index of the step it comes from: of a packet put together from
	// pieces, one of these. It is -1 of the first, and of further fragments at the
	// hop where the first was seen.
	Prev int
	// Delta is the time since Prev. It is less than 0 where the clocks of two CPUs
	// disagree, by [Config.Skew] at most.
	Delta   time.Duration
	Match   Match   // how it was known to be Prev's packet
	Change  Change  // against Prev
	Verdict Verdict // Delivered, LeftLab or Dropped if that happened here, or behind here
	With    uint32  // how many other Paths went on in this step
}

// Piece is a part of a packet's payload: in bytes, from the packet's first. That
// of a TCP or UDP packet is behind these headers; that of a datagram which was
// fragmented, or may be, is behind the IP header.
type Piece struct{ Offset, Length uint32 }

// end returns the first byte behind p. A piece without bytes takes the room of
// one, so that it overlaps itself.
func (p Piece) end() uint64 { return uint64(p.Offset) + uint64(max(p.Length, 1)) }

func (p Piece) overlaps(q Piece) bool {
	return uint64(p.Offset) < q.end() && uint64(q.Offset) < p.end()
}

// Merge says that a piece went on in a packet of another Path: GRO and
// defragmentation make one packet of several.
type Merge struct {
	Piece                // of this Path's packet
	Step   int           // of this Path: where the piece was before
	Hop    hop.ID        // where it was seen merged
	Delta  time.Duration // from Step to there
	Path   uint64        // the other's number
	AtStep int           // of the other
}

// Verdict says how a Path ended.
type Verdict uint8

const (
	LastSeen        Verdict = iota // it was not seen again; why is not known
	Dropped                        // the kernel said so, or a filter of the user's did it
	PartlyDelivered                // some of its pieces came to an end, others were not seen again
	Merged                         // all of it that was not delivered went on in other Paths
	LeftLab                        // by an uplink
	Delivered                      // to a node that owns the destination: every byte
	Unfinished                     // the trace ended before it could be known
)

// String returns the verdict as JSON has it.
func (v Verdict) String() string {
	return [...]string{"last_seen", "dropped", "partly_delivered", "merged", "left_lab", "delivered", "unfinished"}[v]
}

// Match says how a sighting was known to be of the same packet as the one before
// it, strongest first.
type Match uint8

const (
	MatchNone        Match = iota // it is the first
	MatchSkb                      // the same skb
	MatchHead                     // another skb with the same buffer: a copy
	MatchSegments                 // a piece of the packet, or its pieces put together
	MatchFingerprint              // the fields that no hop changes
	MatchOrder                    // likewise, and of several packets that are alike its turn
)

// String returns the match as JSON has it; that of the first step is empty.
func (m Match) String() string {
	return [...]string{"", "skb", "head", "segments", "fingerprint", "order"}[m]
}

// Lost says whether p, or some of it, did not come to an end that is known to be
// good, and it was waited for long enough to say so.
func (p *Path) Lost() bool {
	return p.Verdict == LastSeen || p.Verdict == Dropped || p.Verdict == PartlyDelivered
}
