package bpf

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket/layers"
)

// Both count programs count any packet once, at their own hop, and hand it on.
func TestCount(t *testing.T) {
	frames := map[string][]byte{
		"header only": frame(t, eth(layers.EthernetTypeLinkLayerDiscovery)),
		"one more":    append(frame(t, eth(layers.EthernetTypeLinkLayerDiscovery)), 0),
		"full":        frame(t, eth(layers.EthernetTypeIPv4), ip4(17), udp, text(string(make([]byte, 1472)))),
	}
	for name, r := range readings(t) {
		frames[name] = r.frame
	}
	for prog, verdict := range map[string]uint32{ProgCountTC: tcNext, ProgCountXDP: xdpPass} {
		coll := load(t, spec(t, CountSpec), prog, Site{Hop: 0, Ethernet: true}, Site{Hop: testHop, Ethernet: true}, Site{Hop: lastHop, Ethernet: true})
		p := coll.Programs[CopyName(prog, testHop)]
		for name, f := range frames {
			t.Run(prog+"/"+name, func(t *testing.T) {
				for range 2 {
					if got := run(t, p, f, nil); got != verdict {
						t.Errorf("verdict %d, want %d", int32(got), int32(verdict))
					}
				}
				if diff := cmp.Diff(countAt(testHop, ReasonPass, 2, len(f)), drainCounts(t, coll)); diff != "" {
					t.Errorf("counts (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// A GSO packet counts as its segments, each with its own headers on the wire.
func TestCountSegments(t *testing.T) {
	v4, v6 := eth(layers.EthernetTypeIPv4), eth(layers.EthernetTypeIPv6)
	body := text(string(bytes.Repeat([]byte("x"), 2000)))
	options := ip4(6)
	options.Options = []layers.IPv4Option{{OptionType: 148, OptionLength: 4, OptionData: []byte{0, 0}}}
	// A tag's priority 2 must not be taken for an IP version, nor the id's low byte for a protocol.
	misleading := ip4(6)
	misleading.Id = 17
	tagged := eth(layers.EthernetTypeDot1Q)

	cases := map[string]struct {
		frame    []byte
		gso      gso
		segments uint64
		headers  uint64 // that each further segment repeats
	}{
		"tcp":                  {frame(t, v4, ip4(6), tcp(timestamp...), body), gso{Segments: 3, Size: 700}, 3, 14 + 20 + 32},
		"tcp without options":  {frame(t, v4, ip4(6), tcp(), body), gso{Segments: 3, Size: 700}, 3, 14 + 20 + 20},
		"tcp and ipv4 options": {frame(t, v4, options, tcp(), body), gso{Segments: 3, Size: 700}, 3, 14 + 24 + 20},
		"tcp6":                 {frame(t, v6, ip6(6), tcp(timestamp...), body), gso{Segments: 3, Size: 700}, 3, 14 + 40 + 32},
		"udp":                  {frame(t, v4, ip4(17), udp, body), gso{Segments: 20, Size: 100}, 20, 14 + 20 + 8},
		"udp6":                 {frame(t, v6, ip6(17), udp, body), gso{Segments: 20, Size: 100}, 20, 14 + 40 + 8},
		"unknown protocol":     {frame(t, v4, ip4(132), body), gso{Segments: 3, Size: 700}, 3, 0},
		"behind an extension":  {frame(t, v6, ip6(0), raw("0600010400000000"), tcp(), body), gso{Segments: 3, Size: 700}, 3, 0},
		"not ip":               {frame(t, eth(layers.EthernetTypeLinkLayerDiscovery), body), gso{Segments: 3, Size: 700}, 3, 0},
		"tagged": {frame(t, tagged, &layers.Dot1Q{Priority: 2, VLANIdentifier: 7, Type: layers.EthernetTypeIPv4}, misleading, tcp(), body),
			gso{Segments: 3, Size: 700}, 3, 0},
		"cut short":     {frame(t, v4, ip4(6)), gso{Segments: 3, Size: 700}, 3, 0},
		"one segment":   {frame(t, v4, ip4(6), tcp(), body), gso{Segments: 1, Size: 2000}, 1, 0},
		"no gso at all": {frame(t, v4, ip4(6), tcp(), body), gso{}, 1, 0},
	}
	coll := load(t, spec(t, CountSpec), ProgCountTC, Site{Hop: testHop, Ethernet: true})
	p := coll.Programs[CopyName(ProgCountTC, testHop)]
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if got := run(t, p, c.frame, c.gso); got != tcNext {
				t.Errorf("verdict %d, want TC_ACT_UNSPEC", int32(got))
			}
			size := uint64(len(c.frame))
			want := map[uint32]Count{CountIndex(testHop, ReasonPass): {
				Packets: 1, Segments: c.segments, Bytes: size, WireBytes: size + (c.segments-1)*c.headers,
			}}
			if diff := cmp.Diff(want, drainCounts(t, coll)); diff != "" {
				t.Errorf("counts (-want +got):\n%s", diff)
			}
		})
	}
}

// On a device without Ethernet headers GSO repeats only the headers behind.
func TestCountSegmentsWithoutEthernet(t *testing.T) {
	coll := load(t, spec(t, CountSpec), ProgCountTC, Site{Hop: testHop})
	f := bareTCP(t)
	run(t, coll.Programs[CopyName(ProgCountTC, testHop)], f, gso{Segments: 5, Size: 1})
	want := map[uint32]Count{CountIndex(testHop, ReasonPass): {
		Packets: 1, Segments: 5, Bytes: uint64(len(f)), WireBytes: uint64(len(f) + 4*(20+32)),
	}}
	if diff := cmp.Diff(want, drainCounts(t, coll)); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
}

// bareTCP is a TCP packet without an Ethernet header. The kernel's test run
// takes the protocol from bytes 12 and 13 all the same; here these are the first
// of the source address, so it must be of 8.0.0.0/16.
func bareTCP(t testing.TB) []byte {
	t.Helper()
	ip := ip4(6)
	ip.SrcIP = []byte{8, 0, 0, 10}
	return frame(t, ip, tcp(timestamp...), text("GET /"))
}
