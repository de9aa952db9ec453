package recording

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/trace"
)

func v4(s string) [16]byte { return netip.MustParseAddr(s).As16() }

// echo is a packet of a ping.
func echo() bpf.Packet {
	return bpf.Packet{
		Src: v4("172.16.16.10"), Dst: v4("8.8.8.8"), EthSrc: [6]byte{2, 0, 0, 0, 0, 1}, EthDst: [6]byte{2, 0, 0, 0, 0, 2},
		Len: 98, EtherType: collector.EtherIPv4, Proto: collector.ProtoICMP, NextHdr: 1, IPID: 7, TTL: 64,
		ICMPType: 8, ICMPID: 3, ICMPSeq: 1, PayloadOff: 42,
	}
}

// step is a sighting of p at a hop of testStart.
func step(id hop.ID, ns uint64, p bpf.Packet) trace.Step {
	return trace.Step{Sighting: collector.Sighting{Sighting: bpf.Sighting{
		TimeNS: ns, Skb: 0xffff888000000000, Hop: uint16(id), Segments: 1, Packet: p,
	}}}
}

// testPaths are two that cross in time; the second was dropped, and was known first.
func testPaths() []*trace.Path {
	dropped := step(1, 400, echo())
	dropped.Verdict = trace.Dropped
	return []*trace.Path{
		{Number: 2, Steps: []trace.Step{step(0, 200, echo()), dropped}, End: 1, Verdict: trace.Dropped},
		{Number: 1, Steps: []trace.Step{step(0, 100, echo()), step(2, 300, echo()), step(1, 500, echo())}, End: 2, Verdict: trace.Delivered},
		{Number: 3, Steps: []trace.Step{step(hop.None, 600, echo())}, Verdict: trace.Dropped},
	}
}

// shown is a packet as a reader of capture files has it.
type shown struct {
	Iface, Out    int
	NS            int64
	Bytes, Length int
	ID            uint64
	Lost          uint64
	Verdict       string
	Comment       string
}

func packets(t *testing.T, raw io.Reader) (faces []pcapgo.NgInterface, all []shown) {
	t.Helper()
	r, err := pcapgo.NewNgReader(raw, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	for {
		b, ci, opts, err := r.ReadPacketDataWithOptions()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		s := shown{
			Iface: ci.InterfaceIndex, NS: ci.Timestamp.UnixNano() - testStart().EpochNS, Bytes: len(b), Length: ci.Length,
			ID: *opts.PacketID, Comment: strings.Join(opts.Comments, "|"),
		}
		if opts.Flags.Direction == pcapgo.NgEpbFlagDirectionOutbound {
			s.Out = 1
		}
		if opts.DropCount != nil {
			s.Lost = *opts.DropCount
		}
		for _, v := range opts.Verdicts {
			s.Verdict += fmt.Sprintf("%d:%d", v.Type, binary.LittleEndian.Uint64(v.Data))
		}
		all = append(all, s)
	}
	for i := range r.NInterfaces() {
		f, err := r.Interface(i)
		if err != nil {
			t.Fatal(err)
		}
		faces = append(faces, f)
	}
	return faces, all
}

func TestCapture(t *testing.T) {
	var b bytes.Buffer
	c, err := newCapture(&b, testStart(), newSnaps())
	if err != nil {
		t.Fatal(err)
	}
	first, snap := keyOf(&testPaths()[1].Steps[0].Sighting), bytes.Repeat([]byte{0xee}, 96)
	counts := &collector.Ledgers{Hops: []collector.HopLedger{{Hop: testStart().Hops[1], Ledger: collector.Ledger{Seen: 9, Lost: 5}}}}
	events := []Event{
		{Snaps: []collector.Snap{{TimeNS: first.time, Skb: first.skb, Hop: first.hop, Length: 1514, Bytes: snap}}},
		{Counts: counts},
		{Input: &trace.Input{Until: 700}},
	}
	for _, p := range testPaths() {
		events = append(events, Event{Path: &Path{JSON: []byte("{}"), Joined: p, Comment: fmt.Sprintf("path %d\nended", p.Number)}})
	}
	events = append(events, Event{End: &End{Ledgers: *counts}})
	for _, e := range events {
		if err := c.Write(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.finish(); err != nil {
		t.Fatal(err)
	}
	faces, all := packets(t, &b)
	want := []shown{
		{Iface: 0, Out: 1, NS: 100, Bytes: 96, Length: 1514, ID: 1, Verdict: "1:0"},
		{Iface: 0, Out: 1, NS: 200, Bytes: 42, Length: 98, ID: 2, Verdict: "1:0"},
		{Iface: 2, NS: 300, Bytes: 42, Length: 98, ID: 1, Verdict: "2:2"},
		{Iface: 1, NS: 400, Bytes: 42, Length: 98, ID: 2, Verdict: "1:2", Lost: 5, Comment: "path 2\nended"},
		{Iface: 1, NS: 500, Bytes: 42, Length: 98, ID: 1, Verdict: "1:0", Comment: "path 1\nended"},
	}
	if diff := cmp.Diff(want, all); diff != "" {
		t.Error(diff)
	}
	var names []string
	for _, f := range faces {
		names = append(names, f.Name+"; "+f.Description)
	}
	wantNames := []string{"left:left-veth out; lab nat, end", "host:left-br0-veth in; lab nat, port", "host:left-br0-veth xdp; lab nat, port"}
	if diff := cmp.Diff(wantNames, names); diff != "" {
		t.Error(diff)
	}
	if s := faces[1].Statistics; s.PacketsReceived != 9 || s.PacketsDropped != 5 {
		t.Errorf("statistics of the second interface: %d seen, %d lost", s.PacketsReceived, s.PacketsDropped)
	}
}

// Packets are written when nothing before them is to be expected, and not kept for
// longer.
func TestCaptureKeepsPackets(t *testing.T) {
	var b bytes.Buffer
	c, err := newCapture(&b, testStart(), newSnaps())
	if err != nil {
		t.Fatal(err)
	}
	path := testPaths()[1]
	for _, e := range []struct {
		Event
		kept int
	}{
		{Event{Path: &Path{JSON: []byte("{}"), Joined: path}}, 3},
		{Event{Input: &trace.Input{Until: 400}}, 3},
		{Event{Input: &trace.Input{Until: sortWindow + 400}}, 1},
		{Event{Input: &trace.Input{Until: sortWindow + 500}}, 0},
	} {
		if err := c.Write(e.Event); err != nil {
			t.Fatal(err)
		}
		if n := c.sorted.Len(); n != e.kept {
			t.Errorf("until %d: %d packets are kept, want %d", e.Input.Until, n, e.kept)
		}
	}
}

func TestSnapsAreBounded(t *testing.T) {
	k := newSnaps()
	k.most = 1000
	snap := func(i int) *collector.Snap {
		return &collector.Snap{TimeNS: uint64(i), Bytes: bytes.Repeat([]byte{byte(i)}, 100)}
	}
	for i := range 20 {
		k.keep(snap(i))
	}
	for i := range 20 {
		s, ok := k.take(snapKey{time: uint64(i)})
		if want := i >= 10; ok != want || ok && s.Bytes[0] != byte(i) {
			t.Errorf("snap %d is kept: %t, want %t", i, ok, want)
		}
	}
	for i := range 100_000 {
		k.keep(snap(i))
		k.take(snapKey{time: uint64(i)})
	}
	if k.bytes != 0 || len(k.byKey) != 0 || len(k.order) > 2000 {
		t.Errorf("left behind: %d bytes, %d snaps, %d in order", k.bytes, len(k.byKey), len(k.order))
	}
}

// headerCases are packets whose headers are made of what is known of them.
func headerCases() map[string]bpf.Packet {
	edit := func(f func(*bpf.Packet)) bpf.Packet {
		p := echo()
		f(&p)
		return p
	}
	six := func(p *bpf.Packet) {
		p.EtherType, p.Src, p.Dst, p.IPID = collector.EtherIPv6, v4("fd00::1"), v4("fd00::2"), 0
	}
	return map[string]bpf.Packet{
		"icmp": echo(),
		"tcp": edit(func(p *bpf.Packet) {
			p.Proto, p.NextHdr, p.ICMPType, p.Flags = collector.ProtoTCP, 6, 0, bpf.PacketPorts
			p.Sport, p.Dport, p.Seq, p.Ack, p.TCPFlags, p.TSVal, p.PayloadOff = 40000, 443, 1, 2, 0x18, 99, 66
			p.TOS, p.Frag = 0xb8, 0x4000
		}),
		"udp behind a tag": edit(func(p *bpf.Packet) {
			p.Proto, p.NextHdr, p.ICMPType, p.Flags = collector.ProtoUDP, 17, 0, bpf.PacketPorts|bpf.PacketVLAN
			p.Sport, p.Dport, p.VLAN = 5353, 53, 1<<13|100
		}),
		"fragment": edit(func(p *bpf.Packet) { p.Frag, p.Flags, p.PayloadOff = 185, bpf.PacketFragment, 0 }),
		"arp": edit(func(p *bpf.Packet) {
			p.EtherType, p.Proto, p.ICMPType, p.Len = collector.EtherARP, 0, 2, 42
		}),
		"icmp6": edit(func(p *bpf.Packet) { six(p); p.Proto, p.NextHdr, p.ICMPType = 58, 58, 128 }),
		"fragment of ipv6": edit(func(p *bpf.Packet) {
			six(p)
			p.Proto, p.NextHdr, p.FragNext, p.Frag, p.FragID, p.Flags = 17, protoFrag, 17, 1448, 77, bpf.PacketFragment
		}),
		"behind an extension": edit(func(p *bpf.Packet) { six(p); p.Proto, p.NextHdr = 17, 0 }),
		"large": edit(func(p *bpf.Packet) {
			p.Proto, p.Len, p.Flags, p.PayloadOff = collector.ProtoTCP, 1<<17, bpf.PacketPorts, 54
		}),
		"not ip": edit(func(p *bpf.Packet) { *p = bpf.Packet{EtherType: 0x88cc, Len: 60} }),
	}
}

// gopacket reads of the headers what they were made of.
func TestHeaders(t *testing.T) {
	tests := map[string]string{
		"icmp":                "Ethernet IPv4 ICMPv4 172.16.16.10>8.8.8.8 ttl 64 length 84",
		"tcp":                 "Ethernet IPv4 TCP 172.16.16.10>8.8.8.8 ttl 64 length 84 40000>443",
		"udp behind a tag":    "Ethernet Dot1Q IPv4 UDP 172.16.16.10>8.8.8.8 ttl 64 length 84 5353>53",
		"fragment":            "Ethernet IPv4 172.16.16.10>8.8.8.8 ttl 64 length 84",
		"arp":                 "Ethernet ARP",
		"icmp6":               "Ethernet IPv6 ICMPv6 ICMPv6Echo fd00::1>fd00::2",
		"fragment of ipv6":    "Ethernet IPv6 IPv6Fragment fd00::1>fd00::2",
		"behind an extension": "Ethernet IPv6 fd00::1>fd00::2",
		// The field is 0, which gopacket takes for what is there.
		"large":  "Ethernet IPv4 TCP 172.16.16.10>8.8.8.8 ttl 64 length 40 0>0",
		"not ip": "Ethernet",
	}
	for name, p := range headerCases() {
		t.Run(name, func(t *testing.T) {
			b := appendHeaders(nil, &p, false)
			if len(b) > longestHeaders {
				t.Errorf("%d bytes, more than longestHeaders", len(b))
			}
			if got := dissect(b); got != tests[name] {
				t.Errorf("%s\nis  %s\nwant %s", hex.Dump(b), got, tests[name])
			}
			bare := p
			bare.Len -= ethernetLen
			bare.PayloadOff -= ethernetLen
			if ip := appendHeaders(nil, &bare, true); p.Flags&bpf.PacketVLAN == 0 && !bytes.Equal(ip, b[ethernetLen:]) {
				t.Error("without the Ethernet header it is something else")
			}
		})
	}
}

func dissect(b []byte) string {
	p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.DecodeOptions{NoCopy: true})
	var words []string
	for _, l := range p.Layers() {
		switch l.LayerType() {
		case gopacket.LayerTypeDecodeFailure, gopacket.LayerTypePayload, gopacket.LayerTypeFragment, layers.LayerTypeLinkLayerDiscovery:
			continue
		}
		words = append(words, l.LayerType().String())
	}
	if n := p.NetworkLayer(); n != nil {
		words = append(words, n.NetworkFlow().Src().String()+">"+n.NetworkFlow().Dst().String())
	}
	if ip, ok := p.NetworkLayer().(*layers.IPv4); ok {
		words = append(words, fmt.Sprintf("ttl %d length %d", ip.TTL, ip.Length))
	}
	if l := p.TransportLayer(); l != nil {
		words = append(words, l.TransportFlow().Src().String()+">"+l.TransportFlow().Dst().String())
	}
	return strings.Join(words, " ")
}

// The kernel keeps a tag beside the packet, tcpdump and we put it back.
func TestTagged(t *testing.T) {
	p := headerCases()["udp behind a tag"]
	want := appendHeaders(nil, &p, false)
	plain := p
	plain.Flags &^= bpf.PacketVLAN
	got, added := tagged(appendHeaders(nil, &plain, false), &p)
	if !added || !bytes.Equal(got, want) {
		t.Errorf("added %t\n%x\nwant\n%x", added, got, want)
	}
	if got, added = tagged(want, &p); added || !bytes.Equal(got, want) {
		t.Error("a tag was added to one that is there")
	}
	if got, added = tagged(want[:10], &p); added || len(got) != 10 {
		t.Error("a tag was added to what is no header")
	}
}

// BenchmarkCapture writes paths of four steps, with snaps of 256 bytes and without.
func BenchmarkCapture(b *testing.B) {
	for _, snapped := range []bool{false, true} {
		b.Run(fmt.Sprintf("snapped=%t", snapped), func(b *testing.B) {
			start := testStart()
			c, err := newCapture(io.Discard, start, newSnaps())
			if err != nil {
				b.Fatal(err)
			}
			p := trace.Path{Verdict: trace.Delivered, End: 3}
			for i := range 4 {
				p.Steps = append(p.Steps, step(start.Hops[i%3].ID, 0, echo()))
			}
			kept := bytes.Repeat([]byte{1}, 256)
			for now := uint64(1); b.Loop(); now += 1000 {
				p.Number++
				var snaps []collector.Snap
				for i := range p.Steps {
					st := &p.Steps[i]
					st.TimeNS = now + uint64(i)
					snaps = append(snaps, collector.Snap{TimeNS: st.TimeNS, Skb: st.Skb, Hop: st.Hop, Length: 256, Bytes: kept})
				}
				if snapped {
					err = errors.Join(err, c.Write(Event{Snaps: snaps}))
				}
				err = errors.Join(err, c.Write(Event{Path: &Path{JSON: []byte("{}"), Joined: &p}}), c.Write(Event{Input: &trace.Input{Until: now}}))
			}
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(4*float64(b.N)/b.Elapsed().Seconds(), "packets/s")
		})
	}
}
