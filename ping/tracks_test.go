package ping

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/forward"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/trace"
)

// hops are those of a line left - host - wan, each way.
var hops = []hop.Hop{
	{ID: 0, Node: "left", Device: "eth0", Direction: hop.Egress},
	{ID: 1, Node: "host", Device: "veth0", Direction: hop.Ingress},
	{ID: 2, Node: "host", Device: "eth0", Direction: hop.Egress},
	{ID: 3, Node: "wan", Device: "eth0", Direction: hop.Ingress},
	{ID: 4, Node: "wan", Device: "eth0", Direction: hop.Egress},
	{ID: 5, Node: "host", Device: "eth0", Direction: hop.Ingress},
	{ID: 6, Node: "host", Device: "veth0", Direction: hop.Egress},
	{ID: 7, Node: "left", Device: "eth0", Direction: hop.Ingress},
	{ID: 8, Node: "host", Device: "veth0", Direction: hop.Ingress, Layer: hop.XDP},
}

// What left and wan are to each other: host translates both addresses.
var (
	left   = netip.MustParseAddr("10.0.0.1")
	public = netip.MustParseAddr("203.0.113.1") // what left sends to
	nat    = netip.MustParseAddr("192.0.2.2")   // what wan sees of left
	server = netip.MustParseAddr("192.0.2.80")  // and is itself
)

// at is a sighting of k's packet, or of one that answers it, at a hop.
func at(id hop.ID, ns uint64, k Key, edit func(*bpf.Packet)) trace.Step {
	p := bpf.Packet{EtherType: collector.EtherIPv4, Src: k.Src.As16(), Dst: k.Dst.As16(), Len: 98}
	switch k.Proto {
	case ICMP:
		p.Proto, p.ICMPType, p.ICMPID, p.ICMPSeq = collector.ProtoICMP, icmpEcho, k.ID, uint16(k.Seq)
	case UDP:
		p.Proto, p.Sport, p.Dport, p.Flags = collector.ProtoUDP, k.Sport, k.Dport, bpf.PacketPorts
	case TCP:
		p.Proto, p.Sport, p.Dport, p.Flags = collector.ProtoTCP, k.Sport, k.Dport, bpf.PacketPorts
		p.TCPFlags, p.Seq = tcpSYN, k.Seq
	}
	if edit != nil {
		edit(&p)
	}
	st := trace.Step{Prev: -1}
	st.Hop, st.TimeNS, st.Packet = uint16(id), ns, p
	return st
}

// path joins steps one behind the other.
func path(number uint64, v trace.Verdict, steps ...trace.Step) *trace.Path {
	p := &trace.Path{Number: number, Verdict: v, Steps: steps, End: len(steps) - 1, Attempt: 1}
	for i := 1; i < len(steps); i++ {
		steps[i].Prev = i - 1
		steps[i].Delta = time.Duration(steps[i].TimeNS - steps[i-1].TimeNS)
	}
	return p
}

// asLeft, asWan: a probe as its sender and as its receiver know it.
func keys(proto Proto, n int) (asLeft, asWan Key) {
	k := Key{Proto: proto, Src: left, Dst: public}
	if proto == ICMP {
		k.ID, k.Seq = 7, uint32(n)
	} else {
		k.Sport, k.Dport = uint16(40000+n), 80
	}
	if proto == TCP {
		k.Seq = uint32(1000 + n)
	}
	w := k
	w.Src, w.Dst = nat, server
	if proto != ICMP {
		w.Sport, w.Dport = k.Sport+1000, 8080
	}
	return k, w
}

// answers makes a packet that answers k.
func answersTo(k Key) func(*bpf.Packet) {
	return func(p *bpf.Packet) {
		p.Src, p.Dst, p.Sport, p.Dport = k.Dst.As16(), k.Src.As16(), k.Dport, k.Sport
		switch k.Proto {
		case ICMP:
			p.ICMPType = icmpEchoReply
		case TCP:
			p.TCPFlags, p.Ack, p.Seq = tcpSYN|tcpACK, k.Seq+1, 5
		}
	}
}

// icmpError makes an ICMP error from somewhere to somebody.
func icmpError(from, to netip.Addr, kind, code uint8) func(*bpf.Packet) {
	return func(p *bpf.Packet) {
		*p = bpf.Packet{
			EtherType: collector.EtherIPv4, Proto: collector.ProtoICMP, Src: from.As16(), Dst: to.As16(),
			ICMPType: kind, ICMPCode: code, Len: 70,
		}
	}
}

// TestTracks finds three probes and their answers among others, whichever is
// complete first: one that was answered, one whose answer got lost behind the
// first hop, and one that was lost.
func TestTracks(t *testing.T) {
	for _, proto := range []Proto{ICMP, UDP, TCP} {
		var probes []Probe
		var paths []*trace.Path
		for n := 1; n <= 3; n++ {
			l, w := keys(proto, n)
			pr := Probe{Number: n, Key: l}
			base := uint64(n) * 1000
			fwd := path(uint64(10*n), trace.Delivered, at(0, base, l, nil), at(1, base+1, l, nil), at(2, base+2, w, nil), at(3, base+3, w, nil))
			back := path(uint64(10*n+1), trace.Delivered,
				at(4, base+10, w, answersTo(w)), at(5, base+11, w, answersTo(w)), at(6, base+12, l, answersTo(l)), at(7, base+13, l, answersTo(l)))
			switch n {
			case 1:
				pr.Answer = &Answer{Kind: EchoReply, From: public}
			case 2:
				back.Steps, back.End, back.Verdict = back.Steps[:1], 0, trace.LastSeen
			case 3:
				fwd.Steps, fwd.End, fwd.Verdict, back = fwd.Steps[:2], 1, trace.Dropped, nil
			}
			if paths = append(paths, fwd); back != nil {
				paths = append(paths, back)
			}
			probes = append(probes, pr)
		}
		other := Key{Proto: proto, Src: server, Dst: left, ID: 8, Sport: 5353, Dport: 5353}
		paths = append(paths, path(90, trace.Delivered, at(4, 1, other, nil), at(5, 2, other, nil)))
		for _, order := range []func([]*trace.Path){func([]*trace.Path) {}, slices.Reverse[[]*trace.Path]} {
			order(paths)
			tracks := NewTracks("left", hops)
			for _, p := range paths {
				tracks.Add(p)
			}
			var got [][2]uint64
			for i := range probes {
				got = append(got, [2]uint64{number(tracks.Forward(&probes[i])), number(tracks.Back(&probes[i]))})
			}
			if d := cmp.Diff([][2]uint64{{10, 11}, {20, 21}, {30, 0}}, got); d != "" {
				t.Errorf("%s: paths of probes and answers (-want +got):\n%s", proto, d)
			}
		}
	}
}

func number(p *trace.Path) uint64 {
	if p == nil {
		return 0
	}
	return p.Number
}

// TestTracksOfErrors finds the ICMP error about each of two probes, and not that
// about somebody else's packet.
func TestTracksOfErrors(t *testing.T) {
	tracks := NewTracks("left", hops)
	router := netip.MustParseAddr("10.0.0.254")
	refusal := func(n, ns uint64, kind uint8) *trace.Path {
		e := icmpError(router, left, kind, 1)
		return path(n, trace.Delivered, at(6, ns, Key{Src: router, Dst: left}, e), at(7, ns+1, Key{Src: router, Dst: left}, e))
	}
	var probes []Probe
	for n := 1; n <= 3; n++ {
		l, _ := keys(UDP, n)
		pr := Probe{Number: n, Key: l}
		if n < 3 {
			pr.Answer = &Answer{Kind: ICMPError, From: router, Type: 3, Code: 1}
		}
		probes = append(probes, pr)
		tracks.Add(path(uint64(10*n), trace.Dropped, at(0, uint64(n)*100, l, nil), at(1, uint64(n)*100+1, l, nil)))
	}
	tracks.Add(refusal(31, 305, 3)) // the answer to the third got lost, its path is known
	tracks.Add(refusal(21, 205, 3))
	tracks.Add(refusal(98, 102, 11)) // another kind
	tracks.Add(refusal(11, 105, 3))
	tracks.Add(refusal(99, 50, 3)) // before any of them
	var got [][2]uint64
	for i := range probes {
		got = append(got, [2]uint64{number(tracks.Forward(&probes[i])), number(tracks.Back(&probes[i]))})
	}
	if d := cmp.Diff([][2]uint64{{10, 11}, {20, 21}, {30, 31}}, got); d != "" {
		t.Errorf("paths of probes and errors (-want +got):\n%s", d)
	}
}

func TestLeg(t *testing.T) {
	l, w := keys(ICMP, 1)
	var leg Leg
	for _, ns := range []uint64{10, 20, 40} {
		leg.Add(path(1, trace.Delivered, at(0, 0, l, nil), at(1, ns, l, nil), at(2, ns+5, w, nil), at(3, ns+6, w, nil)), false)
	}
	dropped := func(reason string) *trace.Path {
		p := path(2, trace.Dropped, at(0, 0, l, nil), at(1, 30, l, nil))
		p.Drops = []trace.Drop{{Node: "host", Reason: reason}}
		return p
	}
	for _, reason := range []string{"A", "B", "A"} {
		leg.Add(dropped(reason), false)
	}
	leg.Add(dropped("a closed port"), true)
	type edge struct {
		From, To hop.ID
		Packets  int
		Time     Spread
	}
	var edges []edge
	for i := range leg.Edges {
		e := &leg.Edges[i]
		edges = append(edges, edge{e.From, e.To, e.Packets(), e.Time()})
	}
	if d := cmp.Diff([]edge{{0, 1, 7, Spread{10, 30, 40}}, {1, 2, 3, Spread{5, 5, 5}}, {2, 3, 3, Spread{1, 1, 1}}}, edges); d != "" {
		t.Errorf("edges (-want +got):\n%s", d)
	}
	var lost []int
	for _, x := range leg.Lost {
		if x.At != 1 {
			t.Errorf("lost at %d", x.At)
		}
		lost = append(lost, x.Packets)
	}
	if d := cmp.Diff([]int{2, 1}, lost); d != "" || leg.Arrived != 4 || leg.Time() != (Spread{16, 26, 46}) {
		t.Errorf("%d arrived in %v, lost by reason (-want +got):\n%s", leg.Arrived, leg.Time(), d)
	}
}

// TestDiffer compares what happened with what was predicted.
func TestDiffer(t *testing.T) {
	l, w := keys(ICMP, 1)
	step := func(id hop.ID, k Key) forward.Step {
		h := hops[id]
		h.ID = hop.None
		return forward.Step{Hop: h, Packet: forward.Packet{Src: k.Src, Dst: k.Dst}}
	}
	through := &forward.Journey{End: forward.Delivered, At: "wan", Steps: []forward.Step{step(0, l), step(1, l), step(2, w), step(3, w)}}
	stopped := &forward.Journey{
		End: forward.Stopped, At: "host", Steps: []forward.Step{step(0, l), step(1, l)},
		Obstacles: []forward.Obstacle{{Effect: forward.Stops, Sentence: "dropped by a rule"}},
	}
	all := []trace.Step{at(0, 0, l, nil), at(1, 1, l, nil), at(2, 2, w, nil), at(3, 3, w, nil)}
	dropped := path(1, trace.Dropped, slices.Clone(all[:2])...)
	dropped.Drops = []trace.Drop{{Node: "host"}}
	withXDP := path(1, trace.Delivered, all[0], at(8, 1, l, nil), all[1], all[2], all[3])
	for _, tt := range []struct {
		name string
		j    *forward.Journey
		p    *trace.Path
		want string
	}{
		{"as predicted", through, path(1, trace.Delivered, slices.Clone(all)...), ""},
		{"an XDP hop more", through, withXDP, ""},
		{"dropped as predicted", stopped, dropped, ""},
		{"dropped", through, dropped, "predicted host:eth0 out, was dropped in host"},
		{"not dropped", stopped, path(1, trace.Delivered, slices.Clone(all)...), "predicted to be stopped in host (dropped by a rule), came to host:eth0 out"},
		{"another way", through, path(1, trace.Delivered, all[0], all[1], at(6, 2, l, nil)), "predicted host:eth0 out, came to host:veth0 out"},
		{"not translated", through, path(1, trace.Delivered, all[0], all[1], at(2, 2, l, nil)),
			"predicted 192.0.2.2 > 192.0.2.80 at host:eth0 out, was 10.0.0.1 > 203.0.113.1"},
		{"lost at the end", through, path(1, trace.Dropped, slices.Clone(all)...), "predicted to be delivered to wan, was dropped at wan:eth0 in"},
		{"lost", through, path(1, trace.LastSeen, slices.Clone(all[:1])...), "predicted host:veth0 in, was last seen at left:eth0 out"},
		{"not known", through, path(1, trace.Unfinished, slices.Clone(all[:1])...), ""},
		{"at no hop", through, path(1, trace.LastSeen, at(hop.None, 0, l, nil)), "predicted left:eth0 out, was last seen before the first hop"},
	} {
		if got := Differ(tt.j, tt.p, hops); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
