package diff

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/trace"
)

// net is a lab of the tests: left and right at a bridge of host, which translates
// what it sends to wan.
type net struct {
	hops  []hop.Hop
	edges []hop.Edge
}

var lab = func() (n net) {
	for _, place := range [][2]string{{"left", "eth0"}, {"right", "eth0"}, {"host", "left0"}, {"host", "right0"}, {"host", "br0"}, {"host", "eth0"}, {"wan", "eth0"}} {
		for _, d := range []hop.Direction{hop.Ingress, hop.Egress} {
			n.hops = append(n.hops, hop.Hop{ID: hop.ID(len(n.hops)), Node: place[0], Device: place[1], Direction: d})
		}
	}
	for _, way := range [][]string{toWAN, toRight, past} {
		for i := range way[1:] {
			n.edges = append(n.edges, hop.Edge{From: n.id(way[i]), To: n.id(way[i+1])})
		}
	}
	return n
}()

// The ways of the tests' packets.
var (
	toWAN   = []string{"left:eth0 out", "host:left0 in", "host:br0 in", "host:eth0 out", "wan:eth0 in"}
	toRight = []string{"left:eth0 out", "host:left0 in", "host:right0 out", "right:eth0 in"}
	past    = []string{"left:eth0 out", "host:left0 in", "host:br0 in", "host:right0 out", "right:eth0 in"}
)

func (n net) id(name string) hop.ID {
	for _, h := range n.hops {
		if h.String() == name {
			return h.ID
		}
	}
	panic("no hop " + name)
}

// renumbered returns n with other IDs.
func (n net) renumbered() net {
	var out net
	for i, h := range n.hops {
		h.ID = hop.ID(len(n.hops) - 1 - i)
		out.hops = append(out.hops, h)
	}
	for _, e := range n.edges {
		out.edges = append(out.edges, hop.Edge{From: out.id(n.hops[e.From].String()), To: out.id(n.hops[e.To].String())})
	}
	return out
}

// behaviour is how a network treats a flow.
type behaviour struct {
	share  float64 // of the packets
	packet bpf.Packet
	way    []string
	other  []string // another way, that part of the packets take
	part   float64
	lost   float64 // part of packets that are dropped behind the second hop
	drop   trace.Drop
	snat   string             // at the last hop but one
	again  float64            // part of segments that are sent again
	slower map[string]float64 // by the hop that an edge comes from: factors
	bursty bool               // times are alike in neighbours
	unsent bool               // it is not sent at all
}

func tcp(dst string, port uint16) bpf.Packet {
	return bpf.Packet{
		EtherType: collector.EtherIPv4, Proto: collector.ProtoTCP, Flags: bpf.PacketPorts, Sport: 40000, Dport: port,
		Src: addr("172.16.16.10"), Dst: addr(dst), PayloadOff: 54,
	}
}

func echo(dst string) bpf.Packet {
	return bpf.Packet{EtherType: collector.EtherIPv4, Proto: collector.ProtoICMP, ICMPType: 8, Src: addr("172.16.16.10"), Dst: addr(dst)}
}

func addr(s string) [16]byte { return netip.MustParseAddr(s).As16() }

// usual is what the network does to three flows when nothing is wrong.
func usual() []behaviour {
	return []behaviour{
		{share: .5, packet: tcp("8.8.8.8", 443), way: toWAN, snat: "192.0.2.2", again: .02, lost: .02, drop: queueFull()},
		{share: .3, packet: tcp("172.16.16.20", 80), way: toRight, other: past, part: .1},
		{share: .2, packet: echo("8.8.8.8"), way: toWAN, snat: "192.0.2.2", lost: .05, drop: queueFull()},
	}
}

func queueFull() trace.Drop { return trace.Drop{Node: "host", Reason: "QDISC_DROP"} }

func byRule(text string) trace.Drop {
	return trace.Drop{
		Node: "host", Reason: "NETFILTER_DROP", Function: "nf_hook_slow", Callers: []string{"ip_forward", "ip_rcv_finish"},
		Rule: &trace.Rule{Family: "ip", Table: "fw", Chain: "fwd", Handle: 4, Text: text, Verdict: "drop"},
	}
}

// profile returns the Profile of n packets.
func profile(l net, flows []behaviour, n int, seed uint64) *Profile {
	s := sender{net: l, Rand: newRand(seed), clock: 1e9}
	p := NewProfile(l.hops, l.edges)
	for range n {
		u := s.Float64()
		for i := range flows {
			if u -= flows[i].share; u < 0 || i == len(flows)-1 {
				if !flows[i].unsent {
					p.Add(s.send(&flows[i]))
				}
				break
			}
		}
	}
	return p
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 7)) }

// sender makes Paths of packets.
type sender struct {
	net
	*rand.Rand
	clock uint64
	swing float64 // of bursty times
}

func (s *sender) send(f *behaviour) *trace.Path {
	s.clock += 50_000
	p := &trace.Path{Number: s.clock, Attempt: 1, Verdict: trace.Delivered}
	if s.Float64() < f.again {
		p.Attempt = 2
	}
	way := f.way
	if s.Float64() < f.part {
		way = f.other
	}
	lost := s.Float64() < f.lost
	s.swing = .95*s.swing + .15*s.NormFloat64()
	now := s.clock
	for i, name := range way {
		st := trace.Step{Prev: i - 1}
		st.Packet, st.Hop = f.packet, uint16(s.id(name))
		if i > 0 {
			st.Delta = s.delta(f, way[i-1])
			now += uint64(st.Delta)
		}
		if f.snat != "" && i >= len(way)-2 {
			st.Packet.Src = addr(f.snat)
			if i == len(way)-2 {
				st.Change = trace.SNAT
			}
		}
		st.TimeNS = now
		p.Steps = append(p.Steps, st)
		if lost && i == 1 {
			p.Verdict = trace.Dropped
			p.Drops = []trace.Drop{f.drop}
			break
		}
	}
	p.End = len(p.Steps) - 1
	return p
}

// delta is how long an edge takes: ten microseconds, spread as in a log-normal.
func (s *sender) delta(f *behaviour, from string) time.Duration {
	spread := .35 * s.NormFloat64()
	if f.bursty {
		spread = s.swing + .1*s.NormFloat64()
	}
	factor := 1.0
	if x := f.slower[from]; x != 0 {
		factor = x
	}
	return time.Duration(10_000 * factor * math.Exp(spread))
}
