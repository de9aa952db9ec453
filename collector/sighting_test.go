package collector

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/bpf"
)

func TestSightingWords(t *testing.T) {
	type words struct{ IP, Addressed, Echo, Group, Fragment bool }
	tests := map[string]struct {
		p    bpf.Packet
		want words
	}{
		"nothing":     {bpf.Packet{}, words{}},
		"unaddressed": {bpf.Packet{EtherType: EtherIPv4, Flags: bpf.PacketShort}, words{IP: true}},
		"ping":        {bpf.Packet{EtherType: EtherIPv4, Proto: ProtoICMP, ICMPType: 8, Src: v6("10.0.0.1")}, words{IP: true, Addressed: true, Echo: true}},
		"pong6":       {bpf.Packet{EtherType: EtherIPv6, Proto: ProtoICMPv6, ICMPType: 129, Src: v6("fd16::1")}, words{IP: true, Addressed: true, Echo: true}},
		"later part":  {bpf.Packet{EtherType: EtherIPv4, Proto: ProtoICMP, Src: v6("10.0.0.1"), Flags: bpf.PacketFragment}, words{IP: true, Addressed: true, Fragment: true}},
		"arp":         {bpf.Packet{EtherType: EtherARP, Src: v6("10.0.0.1"), EthDst: [6]byte{255, 255, 255, 255, 255, 255}}, words{Addressed: true, Group: true}},
		"multicast":   {bpf.Packet{EtherType: EtherIPv4, Dst: v6("239.1.1.1")}, words{IP: true, Addressed: true, Group: true}},
		"broadcast":   {bpf.Packet{EtherType: EtherIPv4, Dst: v6("255.255.255.255")}, words{IP: true, Addressed: true, Group: true}},
		"multicast6":  {bpf.Packet{EtherType: EtherIPv6, Dst: v6("ff02::1")}, words{IP: true, Addressed: true, Group: true}},
	}
	for name, tt := range tests {
		s := Sighting{Sighting: bpf.Sighting{Packet: tt.p}}
		got := words{s.IsIP(), s.Addressed(), s.IsEcho(), s.IsGroup(), s.IsFragment()}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func v6(a string) [16]byte { return netip.MustParseAddr(a).As16() }
