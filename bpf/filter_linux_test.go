package bpf

import (
	"testing"
	"unsafe"

	"github.com/cilium/ebpf/asm"
	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket/layers"

	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/internal/testenv"
)

// filterProgs are the two filter programs. The XDP one counts what passes too.
var filterProgs = map[string]struct {
	pass, drop uint32
	countsPass bool
}{
	ProgFilterTC:  {pass: tcNext, drop: tcShot},
	ProgFilterXDP: {pass: xdpPass, drop: xdpDrop, countsPass: true},
}

// A filter drops what matches and nothing else, and counts what it did.
func TestFilter(t *testing.T) {
	testenv.Root(t)
	// matchUDP: R0 = packet->proto == IPPROTO_UDP
	const protoOffset = int16(unsafe.Offsetof(Packet{}.Proto))
	matchUDP := asm.Instructions{
		asm.LoadMem(asm.R1, asm.R1, protoOffset, asm.Byte),
		asm.Mov.Imm(asm.R0, 0),
		{OpCode: asm.JNE.Op(asm.ImmSource), Dst: asm.R1, Constant: 17, Offset: 1},
		asm.Mov.Imm(asm.R0, -1), // any value but 0
		asm.Return(),
	}
	tcpFrame := frame(t, eth(layers.EthernetTypeIPv4), ip4(6), tcp(timestamp...), text("GET /"))
	// Tagged for the sake of the short ones; see reading.tagged.
	udpFrame := frame(t, eth(layers.EthernetTypeDot1Q), &layers.Dot1Q{Type: layers.EthernetTypeIPv6}, ip6(17), udp, text("hi"))
	cut := udpFrame[:18+40+7]

	cases := map[string]struct {
		body    asm.Instructions // nil: as compiled
		frame   []byte
		drop    bool
		outcome map[uint32]uint64
	}{
		"no expression":    {nil, tcpFrame, true, map[uint32]uint64{uint32(OutcomeMatched): 1}},
		"all":              {matchAll, tcpFrame, true, map[uint32]uint64{uint32(OutcomeMatched): 1}},
		"all, cut short":   {matchAll, cut, true, map[uint32]uint64{uint32(OutcomeMatched): 1}},
		"none":             {matchNone, tcpFrame, false, map[uint32]uint64{}},
		"none, cut short":  {matchNone, cut, false, map[uint32]uint64{uint32(OutcomeUnread): 1}},
		"udp of udp":       {matchUDP, udpFrame, true, map[uint32]uint64{uint32(OutcomeMatched): 1}},
		"udp of tcp":       {matchUDP, tcpFrame, false, map[uint32]uint64{}},
		"udp of half ipv6": {matchUDP, udpFrame[:18+20], false, map[uint32]uint64{uint32(OutcomeUnread): 1}},
		"udp of ethernet":  {matchUDP, udpFrame[:14], false, map[uint32]uint64{uint32(OutcomeUnread): 1}},
		"udp of half udp":  {matchUDP, cut, true, map[uint32]uint64{uint32(OutcomeMatched): 1}},
		"udp of arp":       {matchUDP, frame(t, eth(layers.EthernetTypeARP), arp()), false, map[uint32]uint64{}},
	}
	for prog, v := range filterProgs {
		for name, c := range cases {
			t.Run(prog+"/"+name, func(t *testing.T) {
				s := spec(t, FilterSpec)
				if c.body != nil {
					s = matching(t, FilterSpec, c.body)
				}
				coll := load(t, s, prog, Site{Hop: testHop, Ethernet: true}, Site{Hop: otherHop, Ethernet: true})
				verdict, why := v.pass, ReasonPass
				counts := map[uint32]Count{}
				if c.drop {
					verdict, why = v.drop, ReasonFilter
				}
				if c.drop || v.countsPass {
					counts = countAt(testHop, why, 1, len(c.frame))
				}
				if got := run(t, coll.Programs[CopyName(prog, testHop)], c.frame, nil); got != verdict {
					t.Errorf("verdict %d, want %d", int32(got), int32(verdict))
				}
				if diff := cmp.Diff(counts, drainCounts(t, coll)); diff != "" {
					t.Errorf("counts (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(c.outcome, drainOutcomes(t, coll)); diff != "" {
					t.Errorf("outcomes (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// A dropped GSO packet counts as all of its segments.
func TestFilterSegments(t *testing.T) {
	coll := load(t, matching(t, FilterSpec, matchAll), ProgFilterTC, Site{Hop: testHop, Ethernet: true})
	f := frame(t, eth(layers.EthernetTypeIPv4), ip4(6), tcp(timestamp...), text("GET /"))
	run(t, coll.Programs[CopyName(ProgFilterTC, testHop)], f, gso{Segments: 5, Size: 1})
	want := map[uint32]Count{CountIndex(testHop, ReasonFilter): {
		Packets: 1, Segments: 5, Bytes: uint64(len(f)), WireBytes: uint64(len(f) + 4*(14+20+32)),
	}}
	if diff := cmp.Diff(want, drainCounts(t, coll)); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
}

// What the match function is given is the same at tc and XDP, field by field:
// here it matches only the packet that is expected.
func TestFilterReads(t *testing.T) {
	testenv.Root(t)
	for prog, v := range filterProgs {
		for name, r := range readings(t) {
			t.Run(prog+"/"+name, func(t *testing.T) {
				for _, c := range []struct {
					name    string
					body    asm.Instructions
					verdict uint32
				}{
					{"the packet", matchPacket(t, r.want), v.drop},
					{"another", matchPacket(t, with(r.want, func(p *Packet) { p.TOS++ })), v.pass},
				} {
					coll := load(t, matching(t, FilterSpec, c.body), prog, Site{Hop: testHop, Ethernet: true})
					if got := run(t, coll.Programs[CopyName(prog, testHop)], r.frame, nil); got != c.verdict {
						t.Errorf("%s: verdict %d, want %d", c.name, int32(got), int32(c.verdict))
					}
				}
			})
		}
	}
}

// A packet cut anywhere within its headers passes as unread, and one cut behind
// them is an ordinary packet.
func TestFilterUnread(t *testing.T) {
	for prog, v := range filterProgs {
		coll := load(t, matching(t, FilterSpec, matchNone), prog, Site{Hop: testHop, Ethernet: true})
		p := coll.Programs[CopyName(prog, testHop)]
		for name, r := range readings(t) {
			if prog == ProgFilterTC {
				r = r.tagged()
			}
			for n := 14; n <= len(r.frame); n++ {
				outcomes := map[uint32]uint64{}
				if n < r.headers {
					outcomes[uint32(OutcomeUnread)] = 1
				}
				if got := run(t, p, r.frame[:n], nil); got != v.pass {
					t.Errorf("%s: %s, %d bytes: verdict %d, want %d", prog, name, n, int32(got), int32(v.pass))
				}
				if diff := cmp.Diff(outcomes, drainOutcomes(t, coll)); diff != "" {
					t.Errorf("%s: %s, %d of %d header bytes: outcomes (-want +got):\n%s", prog, name, n, r.headers, diff)
				}
			}
		}
	}
}

// Copies have their own hop and share everything else.
func TestCopies(t *testing.T) {
	var sites []Site
	for id := range lastHop + 1 {
		sites = append(sites, Site{Hop: id, Ethernet: true})
	}
	coll := load(t, matching(t, FilterSpec, matchAll), ProgFilterTC, sites...)
	if len(coll.Programs) != len(sites) {
		t.Fatalf("%d programs, want %d", len(coll.Programs), len(sites))
	}
	f := frame(t, eth(layers.EthernetTypeARP), arp())
	want := map[uint32]Count{}
	for i, s := range sites {
		for range i + 1 {
			run(t, coll.Programs[CopyName(ProgFilterTC, s.Hop)], f, nil)
		}
		want[CountIndex(s.Hop, ReasonFilter)] = countAt(s.Hop, ReasonFilter, i+1, len(f))[CountIndex(s.Hop, ReasonFilter)]
	}
	if diff := cmp.Diff(want, drainCounts(t, coll)); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[uint32]uint64{uint32(OutcomeMatched): 36}, drainOutcomes(t, coll)); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
}

// A specification that Copies is given stays as it was.
func TestCopiesLeaveSpec(t *testing.T) {
	s := spec(t, TraceSpec)
	if _, err := Copies(s, ProgTraceTC, []Site{{Hop: 1}, {Hop: 2}}); err != nil {
		t.Fatal(err)
	}
	var id hop.ID
	if err := s.Variables["hop_id"].Get(&id); err != nil || id != 0 {
		t.Errorf("hop_id = %d, %v; want 0", id, err)
	}
	if s.Maps[rodata] == nil || s.Programs[ProgTraceTC] == nil {
		t.Error("the constants or the program are gone")
	}
}

func TestSpecErrors(t *testing.T) {
	for name, c := range map[string]struct {
		do   func() error
		want string
	}{
		"no such program": {func() error {
			_, err := Copies(spec(t, CountSpec), "count_x", []Site{{}})
			return err
		}, `bpf program "count_x" does not exist`},
		"empty body":  {func() error { return SetMatch(spec(t, FilterSpec), nil) }, `replacing bpf function "match": empty body`},
		"no match":    {func() error { s := spec(t, CountSpec); delete(s.Programs, ProgCountXDP); return SetMatch(s, matchAll) }, `bpf program "count_tc" has no function "match"`},
		"no variable": {func() error { return SetWakeAt(spec(t, CountSpec), 1) }, `bpf variable "wake_at" does not exist`},
	} {
		t.Run(name, func(t *testing.T) {
			if err := c.do(); err == nil || err.Error() != c.want {
				t.Errorf("error %v, want %s", err, c.want)
			}
		})
	}
}
