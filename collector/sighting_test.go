package collector

import (
	"net/netip"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/bpf"
)

func raw(s *bpf.Sighting) []byte {
	return append([]byte(nil), (*[SightingSize]byte)(unsafe.Pointer(s))[:]...)
}

func sample() bpf.Sighting {
	return bpf.Sighting{
		TimeNS: 1 << 40, Skb: 0xffff888100000000, Head: 0xffff888200000000, Hop: 3, Segments: 2, GSOSize: 1448,
		Packet: bpf.Packet{
			EtherType: EtherIPv4, Proto: ProtoTCP, Len: 2962, Seq: 7, Flags: bpf.PacketPorts, Sport: 40000, Dport: 80,
			Src: netip.MustParseAddr("172.16.16.10").As16(), Dst: netip.MustParseAddr("8.8.8.8").As16(),
		},
	}
}

func TestDecode(t *testing.T) {
	want := sample()
	var got Sighting
	if err := Decode(raw(&want), &got); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got.Sighting); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff("172.16.16.10 8.8.8.8", got.Src().String()+" "+got.Dst().String()); d != "" {
		t.Error(d)
	}
	// A record without a connection leaves nothing of the one before.
	if err := Decode(raw(&want)[:UntrackedSize], &got); err != nil {
		t.Fatal(err)
	}
	want.Orig = bpf.Tuple{}
	if d := cmp.Diff(want, got.Sighting); d != "" {
		t.Error(d)
	}
}

func TestDecodeLength(t *testing.T) {
	want := sample()
	s := Sighting{want}
	for _, n := range []int{0, 1, UntrackedSize - 1, UntrackedSize + 1, SightingSize - 1, SightingSize + 1, 4096} {
		if err := Decode(make([]byte, n), &s); err == nil {
			t.Errorf("Decode of %d bytes: no error", n)
		}
	}
	if d := cmp.Diff(want, s.Sighting); d != "" {
		t.Errorf("a refused record changed the sighting: %s", d)
	}
}

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
		s := Sighting{bpf.Sighting{Packet: tt.p}}
		got := words{s.IsIP(), s.Addressed(), s.IsEcho(), s.IsGroup(), s.IsFragment()}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func v6(a string) [16]byte { return netip.MustParseAddr(a).As16() }

func FuzzDecode(f *testing.F) {
	s := sample()
	f.Add(raw(&s))
	f.Add(raw(&s)[:UntrackedSize])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		var s Sighting
		if err := Decode(b, &s); (err == nil) != (len(b) == SightingSize || len(b) == UntrackedSize) {
			t.Fatalf("Decode of %d bytes: %v", len(b), err)
		}
		if s.Addressed() != s.Src().IsValid() {
			t.Errorf("addressed %v, source %v", s.Addressed(), s.Src())
		}
		_, _, _ = s.HopID(), s.IsEcho(), s.IsGroup()
	})
}

func BenchmarkDecode(b *testing.B) {
	want := sample()
	rec := raw(&want)
	batch := make([]Sighting, 512)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := Decode(rec, &batch[i%len(batch)]); err != nil {
			b.Fatal(err)
		}
	}
}
