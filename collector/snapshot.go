package collector

import (
	"time"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/internal/hop"
)

// Count is what was counted at one hop. Its fields are those of [bpf.Count].
type Count bpf.Count

// Add returns the sum of c and d.
func (c Count) Add(d Count) Count {
	c.Packets += d.Packets
	c.Segments += d.Segments
	c.Bytes += d.Bytes
	c.WireBytes += d.WireBytes
	return c
}

// since returns what came after prev. Counters only grow, so one that shrank was
// started anew.
func (c Count) since(prev Count) Count {
	if c.Packets < prev.Packets || c.Segments < prev.Segments || c.Bytes < prev.Bytes || c.WireBytes < prev.WireBytes {
		return c
	}
	c.Packets -= prev.Packets
	c.Segments -= prev.Segments
	c.Bytes -= prev.Bytes
	c.WireBytes -= prev.WireBytes
	return c
}

// HopCount is what was counted at Hop, by reason and summed over the CPUs.
type HopCount struct {
	Hop      hop.Hop
	ByReason [bpf.ReasonCount]Count
}

// Arrived returns all that came to the hop, whatever became of it.
func (h *HopCount) Arrived() Count {
	var sum Count
	for _, c := range h.ByReason {
		sum = sum.Add(c)
	}
	return sum
}

// Passed returns what went on from the hop.
func (h *HopCount) Passed() Count { return h.ByReason[bpf.ReasonPass] }

// Drop is a Reason and what ended for it.
type Drop struct {
	Reason bpf.Reason
	Count
}

// Drops returns what did not go on, reasons with no packet left out.
func (h *HopCount) Drops() []Drop {
	var drops []Drop
	for r, c := range h.ByReason {
		if reason := bpf.Reason(r); reason != bpf.ReasonPass && c.Packets > 0 {
			drops = append(drops, Drop{reason, c})
		}
	}
	return drops
}

// Snapshot is every hop's counters at one time.
//
// It is not atomic: the programs go on counting while it is read, so that hops
// read later have counted a little more. Exact comparisons need traffic that
// has ended.
type Snapshot struct {
	Time time.Time
	// Span is how long the counters counted: since the earlier Snapshot of a
	// [Snapshot.Sub], else 0 for since the programs were attached.
	Span time.Duration
	Hops []HopCount // in the order of hop.ID that they were asked for
}

// Sub returns what was counted between prev and s, with Span set. Hops that prev
// lacks, and counters that were started anew since, keep the values of s.
func (s Snapshot) Sub(prev Snapshot) Snapshot {
	before := prev.byID()
	d := Snapshot{Time: s.Time, Span: s.Time.Sub(prev.Time), Hops: make([]HopCount, len(s.Hops))}
	for i, h := range s.Hops {
		if p := before[h.Hop.ID]; p != nil && p.Hop == h.Hop {
			for r := range h.ByReason {
				h.ByReason[r] = h.ByReason[r].since(p.ByReason[r])
			}
		}
		d.Hops[i] = h
	}
	return d
}

func (s Snapshot) byID() map[hop.ID]*HopCount {
	m := make(map[hop.ID]*HopCount, len(s.Hops))
	for i := range s.Hops {
		m[s.Hops[i].Hop.ID] = &s.Hops[i]
	}
	return m
}

// Balance compares the two sides of one wire.
type Balance struct {
	From, To hop.Hop
	Out      Count // passed at From
	In       Count // arrived at To, or was dropped by XDP just before it
}

// Missing returns how many segments left and did not arrive. Segments and not
// packets, because GSO and GRO change how many segments one packet stands for.
// It is negative when From was read before packets that To was read after.
func (b Balance) Missing() int64 { return int64(b.Out.Segments - b.In.Segments) }

// Conservation compares the two sides of each wire of edges, in their order.
// Other edges, and wires with a side that s does not have, are left out.
func Conservation(s Snapshot, edges []hop.Edge) []Balance {
	hops := s.byID()
	var out []Balance
	for _, e := range edges {
		from, to := hops[e.From], hops[e.To]
		if !e.Wire || from == nil || to == nil {
			continue
		}
		in := to.Arrived()
		for _, d := range droppedBefore(to.Hop, hops, edges) {
			in = in.Add(d.Count)
		}
		out = append(out, Balance{From: from.Hop, To: to.Hop, Out: from.Passed(), In: in})
	}
	return out
}

// droppedBefore returns the drops at the XDP hop that leads to the tc hop to.
func droppedBefore(to hop.Hop, hops map[hop.ID]*HopCount, edges []hop.Edge) []Drop {
	for _, e := range edges {
		if x := hops[e.From]; e.To == to.ID && x != nil && x.Hop.Layer == hop.XDP && x.Hop.Place() == to.Place() {
			return x.Drops()
		}
	}
	return nil
}
