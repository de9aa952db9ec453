package trace

import (
	"testing"

	"github.com/nsbpf/nsbpf/collector"
)

// The packets of these tests: three segments, and the one behind them.
var (
	parent = with(packets.gso(packets.tcp(1, "172.16.16.10", "172.16.16.20", 1000), 3), func(s *collector.Sighting) { s.Packet.TCPFlags |= flagPSH })
	next   = with(packets.tcp(1, "172.16.16.10", "172.16.16.20", 1000+2*1448+700), func(s *collector.Sighting) { s.Packet.TSVal = parent.Packet.TSVal })
)

// piece returns segments of parent by an skb of their own.
func piece(from, to int, skb uint64) collector.Sighting {
	return as(segments(parent, from, to), skb, 100+skb)
}

// A packet that is cut is one Path.
func TestJoinCut(t *testing.T) {
	for name, tt := range map[string]joining{
		"cut": {in: seq(
			trip(packets.lab, as(parent, 1, 1), 0, across[:1]),
			trip(packets.lab, piece(0, 1, 2), 1, across[1:]), trip(packets.lab, piece(1, 2, 3), 5, across[1:]),
			trip(packets.lab, piece(2, 3, 4), 9, across[1:])), want: `
left:left-veth out 0+3596
host:left-br0-veth in +1 segments 0+1448
host:right-br0-veth out +1 skb 0+1448
right:right-veth in +1 skb 0+1448
host:left-br0-veth in +5 after left:left-veth out segments 1448+1448
host:right-br0-veth out +1 skb 1448+1448
right:right-veth in +1 skb 1448+1448
host:left-br0-veth in +9 after left:left-veth out segments 2896+700
host:right-br0-veth out +1 skb 2896+700
right:right-veth in +1 skb 2896+700
delivered at right:right-veth in, 11
`},
		"a piece is lost": {in: seq(
			trip(packets.lab, as(parent, 1, 1), 0, across[:1]),
			trip(packets.lab, piece(0, 2, 2), 1, across[1:]), trip(packets.lab, piece(2, 3, 4), 9, across[1:3])), want: `
left:left-veth out 0+3596
host:left-br0-veth in +1 segments 0+2896
host:right-br0-veth out +1 skb 0+2896
right:right-veth in +1 skb 0+2896
host:left-br0-veth in +9 after left:left-veth out segments 2896+700
host:right-br0-veth out +1 skb 2896+700
partly_delivered at host:right-br0-veth out, 10 missing 700 next right:right-veth in
`},
		"cut and flooded": {in: seq(
			trip(packets.lab, as(with(parent, broadcast), 1, 1), 0, across[:2]), trip(packets.lab, as(with(parent, broadcast), 2, 1), 2, across[2:3]),
			trip(packets.lab, with(as(segments(parent, 0, 1), 3, 3), broadcast), 3, across[3:]), trip(packets.lab, with(as(segments(parent, 1, 3), 4, 4), broadcast), 4, across[3:]),
			trip(packets.lab, as(with(parent, broadcast), 1, 1), 5, at("host:br0 in"))), want: `
left:left-veth out 0+3596
host:left-br0-veth in +1 skb 0+3596
host:right-br0-veth out +1 head 0+3596
right:right-veth in +1 segments 0+1448
right:right-veth in +2 after host:right-br0-veth out segments 1448+2148
host:br0 in +4 after host:left-br0-veth in skb 0+3596
delivered at host:br0 in, 5
`},
	} {
		t.Run(name, tt.run)
	}
}

// What GRO makes one of several is in the Path of the first.
func TestJoinMerged(t *testing.T) {
	both := with(parent, func(s *collector.Sighting) { s.Segments, s.Packet.Len = 4, s.Packet.Len+1448 })
	for name, tt := range map[string]joining{
		"two are merged": {in: seq(
			trip(packets.lab, as(parent, 1, 1), 0, across[:3]), trip(packets.lab, as(next, 2, 2), 3, across[:3]),
			trip(packets.lab, as(both, 1, 1), 8, across[3:])), want: `
left:left-veth out 0+3596
host:left-br0-veth in +1 skb 0+3596
host:right-br0-veth out +1 skb 0+3596
right:right-veth in +6 skb 0+5044 with 1
delivered at right:right-veth in, 8

left:left-veth out
host:left-br0-veth in +1 skb
host:right-br0-veth out +1 skb
merged at host:right-br0-veth out, 2 0+1448 into #1 step 3 at right:right-veth in +3
`},
		"half of one is merged": {in: seq(
			trip(packets.lab, as(next, 1, 1), 0, across[:3]), trip(packets.lab, as(with(parent, func(s *collector.Sighting) { s.Packet.Seq = next.Packet.Seq + 1448 }), 2, 2), 3, across[:3]),
			trip(packets.lab, as(with(next, func(s *collector.Sighting) { s.Segments, s.GSOSize, s.Packet.Len = 2, 1448, s.Packet.Len+1448 }), 1, 1), 8, across[3:]),
			trip(packets.lab, as(with(segments(parent, 1, 3), func(s *collector.Sighting) { s.Packet.Seq = next.Packet.Seq + 2896 }), 3, 3), 9, across[3:])), want: `
left:left-veth out 0+1448
host:left-br0-veth in +1 skb 0+1448
host:right-br0-veth out +1 skb 0+1448
right:right-veth in +6 skb 0+2896 with 1
delivered at right:right-veth in, 8

left:left-veth out 0+3596
host:left-br0-veth in +1 skb 0+3596
host:right-br0-veth out +1 skb 0+3596
right:right-veth in +4 segments 1448+2148
merged at host:right-br0-veth out, 2 0+1448 into #1 step 3 at right:right-veth in +3
`},
	} {
		t.Run(name, tt.run)
	}
}

// A segment that waits twice with nothing to tell the two apart was sent again.
func TestJoinOrder(t *testing.T) {
	same := packets.echo("fd16::10", "fd16::20", 8, 7)
	data := with(packets.tcp(2, "fd16::10", "fd16::20", 5), func(s *collector.Sighting) { s.Packet.TSVal = 0 })
	for name, tt := range map[string]joining{
		"the oldest": {in: seq(trip(packets.lab, same, 0, across[:1]), trip(packets.lab, same, 2, across[:1]), trip(packets.lab, same, 4, across[1:2])), want: `
left:left-veth out
last_seen at left:left-veth out, 0 next host:left-br0-veth in

left:left-veth out
host:left-br0-veth in +4 order
last_seen at host:left-br0-veth in, 4 next host:right-br0-veth out next host:br0 in
`},
		"the attempt that was not lost": {in: seq(trip(packets.lab, data, 0, across[:1]), trip(packets.lab, data, 2, across[:1]), trip(packets.lab, data, 4, across[1:])), want: `
left:left-veth out
host:left-br0-veth in +2 order
host:right-br0-veth out +1 fingerprint
right:right-veth in +1 fingerprint
delivered at right:right-veth in, 4 attempt 2 after #1

left:left-veth out
last_seen at left:left-veth out, 0 next host:left-br0-veth in
`},
	} {
		t.Run(name, tt.run)
	}
}

// At an XDP hop there is no skb yet, or it is not known. What it becomes has the
// frame's buffer.
func TestJoinXDP(t *testing.T) {
	l := xdpLab()
	out, xdp, in := at("left:left-veth out"), at("right:right-veth in xdp"), at("right:right-veth in")
	frame := func(s collector.Sighting) collector.Sighting {
		s.Skb, s.Segments, s.GSOSize = 0, 1, 0
		return s
	}
	for name, tt := range map[string]joining{
		"generic": {lab: l, in: seq(trip(l, as(local, 1, 9), 0, out), trip(l, frame(as(local, 1, 9)), 1, xdp), trip(l, as(local, 1, 9), 2, in)), want: `
left:left-veth out
right:right-veth in xdp +1 head
right:right-veth in +1 head
delivered at right:right-veth in, 2
`},
		"generic, in another buffer": {lab: l, in: seq(trip(l, as(parent, 1, 9), 0, out), trip(l, frame(as(parent, 1, 8)), 1, xdp), trip(l, as(parent, 1, 8), 2, in)), want: `
left:left-veth out
right:right-veth in xdp +1 segments
right:right-veth in +1 head
delivered at right:right-veth in, 2
`},
		"native": {lab: l, in: seq(trip(l, as(parent, 1, 9), 0, out),
			trip(l, frame(piece(0, 1, 3)), 1, xdp), trip(l, piece(0, 1, 3), 2, in),
			trip(l, frame(piece(1, 2, 4)), 3, xdp), trip(l, piece(1, 2, 4), 4, in), trip(l, frame(piece(2, 3, 5)), 5, xdp)), want: `
left:left-veth out 0+3596
right:right-veth in xdp +1 segments 0+1448
right:right-veth in +1 head 0+1448
right:right-veth in xdp +3 after left:left-veth out segments 1448+1448
right:right-veth in +1 head 1448+1448
right:right-veth in xdp +5 after left:left-veth out segments 2896+700
partly_delivered at right:right-veth in xdp, 5 missing 700 next right:right-veth in
`},
		"native and GRO": {lab: l, in: seq(trip(l, as(parent, 1, 9), 0, out), trip(l, frame(piece(0, 1, 3)), 1, xdp), trip(l, frame(piece(1, 2, 4)), 2, xdp),
			trip(l, frame(piece(2, 3, 5)), 3, xdp), trip(l, as(parent, 3, 103), 9, in)), want: `
left:left-veth out 0+3596
right:right-veth in xdp +1 segments 0+1448
right:right-veth in xdp +2 after left:left-veth out segments 1448+1448
right:right-veth in xdp +3 after left:left-veth out segments 2896+700
right:right-veth in +8 head 0+3596
delivered at right:right-veth in, 9
`},
		"its sighting was lost": {lab: l, in: seq(trip(l, as(local, 1, 9), 0, out), trip(l, as(local, 1, 9), 2, in)), want: `
right:right-veth in
delivered at right:right-veth in, 0 partial

left:left-veth out
last_seen at left:left-veth out, 0 next right:right-veth in xdp
`},
	} {
		t.Run(name, tt.run)
	}
}
