package trace

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/hop"
)

// joining is sightings of a lab and the Paths that they are to make.
type joining struct {
	lab    *lab // nil: natLab
	config func(*Config)
	in     []collector.Sighting
	want   string
}

func (tt joining) run(t *testing.T) {
	l := tt.lab
	if l == nil {
		l = natLab()
	}
	c := l.Config
	if tt.config != nil {
		tt.config(&c)
	}
	var got []string
	j := mustJoiner(t, c, func(p *Path) { got = append(got, describe(l, p)) })
	give(j, tt.in)
	j.Flush()
	if d := cmp.Diff(strings.TrimPrefix(tt.want, "\n"), strings.Join(got, "\n")); d != "" {
		t.Error(d)
	}
}

// The packets of these tests.
var (
	packets = newSim(natLab(), 1)
	ping    = packets.echo("172.16.16.10", "8.8.8.8", 8, 1)
	pong    = packets.echo("8.8.8.8", "192.0.2.2", 0, 1)
	local   = packets.echo("172.16.16.10", "172.16.16.20", 8, 2)
	whohas  = with(arp(1, "172.16.16.10", "172.16.16.20"), broadcast)
	snat    = via(outward, "host:eth0 out", masquerade("192.0.2.2"))
	unsnat  = via(inward, "host:br0 out", unmasquerade("172.16.16.10", "8.8.8.8"))
)

// NAT leaves a packet the same one.
func TestJoinNAT(t *testing.T) {
	for name, tt := range map[string]joining{
		"nat there and back": {in: seq(trip(packets.lab, as(ping, 1, 1), 0, snat), trip(packets.lab, as(pong, 1, 1), 10, unsnat)), want: `
left:left-veth out
host:left-br0-veth in +1 skb
host:br0 in +1 skb
host:eth0 out +1 skb snat
wan:eth0 in +1 skb
delivered at wan:eth0 in, 4

wan:eth0 out
host:eth0 in +1 skb
host:br0 out +1 skb snat-back
host:left-br0-veth out +1 skb
left:left-veth in +1 skb
delivered at left:left-veth in, 4
`},
		"nat without skbs": {in: trip(packets.lab, ping, 0, snat), want: `
left:left-veth out
host:left-br0-veth in +1 fingerprint
host:br0 in +1 fingerprint
host:eth0 out +1 fingerprint snat
wan:eth0 in +1 fingerprint
delivered at wan:eth0 in, 4
`},
		"out by the uplink": {lab: uplinkLab(), in: trip(packets.lab, as(ping, 1, 1), 0, snat[:4]), want: `
left:left-veth out
host:left-br0-veth in +1 skb
host:br0 in +1 skb
host:eth0 out +1 skb snat
left_lab at host:eth0 out, 3
`},
		"to its own published port": {in: trip(packets.lab, as(packets.udp("fd16::10", "fd16::1"), 1, 1), 0, via(
			at("left:left-veth out", "host:left-br0-veth in", "host:br0 in", "host:br0 out", "host:left-br0-veth out", "left:left-veth in"),
			"host:br0 out", func(s *collector.Sighting) {
				s.Orig = origin(flowOf(s))
				s.Orig.Status |= collector.ConnDNAT
				s.Packet.Src, s.Packet.Dst = s.Packet.Dst, s.Packet.Src
			})), want: `
left:left-veth out
host:left-br0-veth in +1 skb
host:br0 in +1 skb
host:br0 out +1 skb snat dnat
host:left-br0-veth out +1 skb
left:left-veth in +1 skb
delivered at left:left-veth in, 5
`},
	} {
		t.Run(name, tt.run)
	}
}

// After the first packet the flow is known to be translated: what comes back to
// the host's own address is not the host's.
func TestJoinLearnsNAT(t *testing.T) {
	joining{in: seq(trip(packets.lab, as(ping, 1, 1), 0, snat), trip(packets.lab, as(pong, 1, 1), 10, unsnat[:2])), want: `
left:left-veth out
host:left-br0-veth in +1 skb
host:br0 in +1 skb
host:eth0 out +1 skb snat
wan:eth0 in +1 skb
delivered at wan:eth0 in, 4

wan:eth0 out
host:eth0 in +1 skb
last_seen at host:eth0 in, 1 next host:br0 out
`}.run(t)
}

// A bridge's copies are branches of one Path.
func TestJoinCopies(t *testing.T) {
	for name, tt := range map[string]joining{
		"who-has is flooded": {in: seq(
			trip(packets.lab, as(whohas, 1, 9), 0, across[:2]),
			trip(packets.lab, as(whohas, 2, 9), 2, across[2:3]),
			trip(packets.lab, as(whohas, 1, 9), 3, at("host:br0 in")),
			trip(packets.lab, as(whohas, 2, 9), 4, across[3:])), want: `
left:left-veth out
host:left-br0-veth in +1 skb
host:right-br0-veth out +1 head
host:br0 in +2 after host:left-br0-veth in skb
right:right-veth in +2 after host:right-br0-veth out skb
delivered at right:right-veth in, 4
`},
		"flooded, without skbs": {in: seq(
			trip(packets.lab, whohas, 0, across[:2]), trip(packets.lab, whohas, 2, across[2:3]),
			trip(packets.lab, whohas, 3, at("host:br0 in")), trip(packets.lab, whohas, 4, across[3:])), want: `
left:left-veth out
host:left-br0-veth in +1 fingerprint
host:right-br0-veth out +1 fingerprint
host:br0 in +2 after host:left-br0-veth in fingerprint
right:right-veth in +2 after host:right-br0-veth out fingerprint
delivered at right:right-veth in, 4
`},
		"who-has nobody": {in: trip(packets.lab, as(with(arp(1, "172.16.16.10", "172.16.16.99"), broadcast), 1, 9), 0, across), want: `
left:left-veth out
host:left-br0-veth in +1 skb
host:right-br0-veth out +1 skb
right:right-veth in +1 skb
last_seen at right:right-veth in, 3
`},
		// The second has the first one's copy's skb while that is still open.
		"two alike are flooded": {in: seq(
			trip(packets.lab, as(whohas, 1, 9), 0, across[:2]), trip(packets.lab, as(whohas, 2, 9), 2, across[2:]),
			trip(packets.lab, as(whohas, 5, 8), 10, across[:2]), trip(packets.lab, as(whohas, 2, 8), 12, across[2:])), want: `
left:left-veth out
host:left-br0-veth in +1 skb
host:right-br0-veth out +1 head
right:right-veth in +1 skb
delivered at right:right-veth in, 3

left:left-veth out
host:left-br0-veth in +1 skb
host:right-br0-veth out +1 head
right:right-veth in +1 skb
delivered at right:right-veth in, 3
`},
		"sent by a port itself": {in: trip(packets.lab, as(with(packets.echo("::", "ff02::16", 8, 1), broadcast), 1, 1), 0, inward[3:]), want: `
host:left-br0-veth out
left:left-veth in +1 skb
delivered at left:left-veth in, 1
`},
	} {
		t.Run(name, tt.run)
	}
}

// What looks the same and is another packet begins a Path.
func TestJoinReuse(t *testing.T) {
	for name, tt := range map[string]joining{
		"retransmitted at once": {in: seq(trip(packets.lab, as(local, 1, 1), 0, across[:2]), trip(packets.lab, as(local, 1, 1), 3, across)), want: `
left:left-veth out
host:left-br0-veth in +1 skb
host:right-br0-veth out +1 skb
right:right-veth in +1 skb
delivered at right:right-veth in, 3

left:left-veth out
host:left-br0-veth in +1 skb
last_seen at host:left-br0-veth in, 1 next host:right-br0-veth out next host:br0 in
`},
		"doubled on the wire": {in: seq(
			trip(packets.lab, as(local, 1, 9), 0, across[:2]), trip(packets.lab, as(local, 2, 9), 2, across[1:]),
			trip(packets.lab, as(local, 1, 9), 10, across[2:])), want: `
host:left-br0-veth in
host:right-br0-veth out +1 skb
right:right-veth in +1 skb
delivered at right:right-veth in, 2 partial

left:left-veth out
host:left-br0-veth in +1 skb
host:right-br0-veth out +9 skb
right:right-veth in +1 skb
delivered at right:right-veth in, 11
`},
		// A reply of the host's in the request's skb, before the request settled.
		"skb used again": {in: seq(
			trip(packets.lab, as(packets.echo("172.16.16.10", "172.16.16.1", 8, 1), 1, 1), 0, outward[:3]),
			trip(packets.lab, as(packets.echo("172.16.16.1", "172.16.16.10", 0, 1), 1, 1), 3, inward[2:])), want: `
left:left-veth out
host:left-br0-veth in +1 skb
host:br0 in +1 skb
delivered at host:br0 in, 2

host:br0 out
host:left-br0-veth out +1 skb
left:left-veth in +1 skb
delivered at left:left-veth in, 2
`},
		// Nothing but the addresses tells an echo server's reply from the request.
		"udp echo in the same skb": {in: seq(
			trip(packets.lab, as(packets.udp("fd16::10", "fd16::1"), 1, 1), 0, outward[:3]),
			trip(packets.lab, as(packets.udp("fd16::1", "fd16::10"), 1, 1), 3, inward[2:])), want: `
left:left-veth out
host:left-br0-veth in +1 skb
host:br0 in +1 skb
delivered at host:br0 in, 2

host:br0 out
host:left-br0-veth out +1 skb
left:left-veth in +1 skb
delivered at left:left-veth in, 2
`},
	} {
		t.Run(name, tt.run)
	}
}

// Where a Path ends, and where it goes on.
func TestJoinEnds(t *testing.T) {
	for name, tt := range map[string]joining{
		"lost in the host": {in: trip(packets.lab, as(ping, 1, 1), 0, snat[:3]), want: `
left:left-veth out
host:left-br0-veth in +1 skb
host:br0 in +1 skb
last_seen at host:br0 in, 2 next host:eth0 out
`},
		"lost sighting": {in: seq(trip(packets.lab, as(local, 1, 1), 0, across[:1]), trip(packets.lab, as(local, 1, 1), 2, across[2:])), want: `
host:right-br0-veth out
right:right-veth in +1 skb
delivered at right:right-veth in, 1 partial

left:left-veth out
last_seen at left:left-veth out, 0 next host:left-br0-veth in
`},
		"to a link-local address": {lab: pairLab(), in: trip(pairLab(), as(packets.echo("fe80::1", "fe80::2", 8, 1), 1, 1), 0,
			at("left:left-veth out", "right:right-veth in")), want: `
left:left-veth out
right:right-veth in +1 skb
delivered at right:right-veth in, 1
`},
		"to somebody else": {lab: pairLab(), in: trip(pairLab(), as(packets.echo("172.16.16.10", "172.16.16.30", 8, 1), 1, 1), 0,
			at("left:left-veth out", "right:right-veth in")), want: `
left:left-veth out
right:right-veth in +1 skb
last_seen at right:right-veth in, 1
`},
		"fragments put together": {in: seq(
			trip(packets.lab, as(with(ping, func(s *collector.Sighting) { s.Packet.Frag = 0x2000 }), 1, 1), 0, outward[:2]),
			trip(packets.lab, as(with(ping, func(s *collector.Sighting) {
				s.Packet.Frag, s.Packet.Flags, s.Packet.ICMPType, s.PayloadHash = 185, bpf.PacketFragment, 0, 0
			}), 2, 2), 2, outward[:2]),
			trip(packets.lab, as(with(ping, func(s *collector.Sighting) { s.Packet.Len = 3000 }), 2, 1), 4, outward[2:])), want: `
left:left-veth out
host:left-br0-veth in +1 skb
left:left-veth out segments
host:left-br0-veth in +1 skb
host:br0 in +1 skb
host:eth0 out +1 skb
wan:eth0 in +1 skb
delivered at wan:eth0 in, 6
`},
		"too many": {config: func(c *Config) { c.MaxOpen = 1 }, in: seq(
			trip(packets.lab, as(local, 1, 1), 0, across[:2]), trip(packets.lab, as(ping, 2, 2), 5, outward[:1])), want: `
left:left-veth out
host:left-br0-veth in +1 skb
last_seen at host:left-br0-veth in, 1 given up next host:right-br0-veth out next host:br0 in

left:left-veth out
last_seen at left:left-veth out, 0 next host:left-br0-veth in
`},
	} {
		t.Run(name, tt.run)
	}
}

// A packet that a filter drops at its last hop is not delivered, and says so.
func TestJoinFiltered(t *testing.T) {
	l := natLab()
	udp := as(packets.udp("fd16::10", "fd16::20"), 1, 1)
	for name, in := range map[string][]collector.Run{
		"one run": {{Sighting: with(udp, func(s *collector.Sighting) {
			s.Hop, s.TimeNS, s.Steps = l.id(across[0].name), 0, 3
		}), Rest: [bpf.MaxSteps]bpf.Step{
			{Hop: l.id(across[1].name), DeltaNS: 1000}, {Hop: l.id(across[2].name), DeltaNS: 2000}, {Hop: l.id(across[3].name), DeltaNS: 3000},
		}}},
		"apart": runsOf(trip(l, udp, 0, across)),
	} {
		for _, id := range []int{0, 7} {
			var got []string
			j := mustJoiner(t, l.Config, func(p *Path) { got = append(got, fmt.Sprintf("%v %d", p.Verdict, p.DroppedBy)) })
			j.SetFilters([]Filter{
				{ID: 5, Hop: 999, Drops: func(*bpf.Packet) bool { return true }},
				{ID: 6, Hop: 1, Drops: func(*bpf.Packet) bool { return false }},
				{ID: 7, Hop: hop.ID(l.id(across[3].name)), Drops: func(p *bpf.Packet) bool { return id != 0 && p.Dport == 7 }},
			})
			j.Add(Input{Runs: in})
			j.Flush()
			want := map[int]string{0: "delivered 0", 7: "dropped 7"}[id]
			if d := cmp.Diff([]string{want}, got); d != "" {
				t.Errorf("%s: %s", name, d)
			}
		}
	}
}
