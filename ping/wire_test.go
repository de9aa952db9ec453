package ping

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	src4, dst4 = netip.MustParseAddr("172.16.16.10"), netip.MustParseAddr("8.8.8.8")
	src6, dst6 = netip.MustParseAddr("fd16::10"), netip.MustParseAddr("2001:4860:4860::8888")
	router4    = netip.MustParseAddr("172.16.16.1")
	router6    = netip.MustParseAddr("fd16::1")
)

func cmpAddrs() cmp.Option { return cmp.Comparer(func(a, b netip.Addr) bool { return a == b }) }

// ip4 returns an IPv4 packet with options of so many bytes in its header.
func ip4(proto byte, options int, transport []byte) []byte {
	b := make([]byte, 20+options, 20+options+len(transport))
	b[0], b[9] = 0x40|byte(5+options/4), proto
	copy(b[12:], src4.AsSlice())
	copy(b[16:], dst4.AsSlice())
	return append(b, transport...)
}

// ip6 returns an IPv6 packet; extension headers go before transport.
func ip6(next byte, transport []byte) []byte {
	b := make([]byte, 40, 40+len(transport))
	b[0], b[6] = 0x60, next
	copy(b[8:], src6.AsSlice())
	copy(b[24:], dst6.AsSlice())
	return append(b, transport...)
}

func message(kind, code byte, rest [4]byte, body []byte) []byte {
	return slices.Concat([]byte{kind, code, 0, 0}, rest[:], body)
}

func TestParseICMP(t *testing.T) {
	ports := []byte{0x9c, 0x40, 0x00, 0x35, 0, 8, 0, 0} // 40000 > 53
	echo4 := []byte{8, 0, 0, 0, 0, 7, 0, 9}
	echo6 := []byte{128, 0, 0, 0, 0, 7, 0, 9}
	tcp := []byte{0x9c, 0x40, 0x01, 0xbb, 1, 2, 3, 4}
	fragment := []byte{ipUDP, 0, 0, 1, 0, 0, 0, 5} // the first
	mtu1400 := [4]byte{0, 0, 0x05, 0x78}
	udp4 := Key{Proto: UDP, Src: src4, Dst: dst4, Sport: 40000, Dport: 53}
	udp6 := Key{Proto: UDP, Src: src6, Dst: dst6, Sport: 40000, Dport: 53}
	for _, tt := range []struct {
		name string
		six  bool
		b    []byte
		key  Key
		want Answer // From is the router
	}{
		{"echo reply", false, message(0, 0, [4]byte{0, 7, 0, 9}, []byte("carried")), Key{ID: 7, Seq: 9}, Answer{Kind: EchoReply}},
		{"echo reply 6", true, message(129, 0, [4]byte{0, 7, 0, 9}, []byte("carried")), Key{ID: 7, Seq: 9}, Answer{Kind: EchoReply}},
		{"port unreachable", false, message(3, 3, [4]byte{}, ip4(ipUDP, 0, ports)), udp4, Answer{Kind: ICMPError, Type: 3, Code: 3}},
		{"with options", false, message(3, 3, [4]byte{}, ip4(ipUDP, 8, ports)), udp4, Answer{Kind: ICMPError, Type: 3, Code: 3}},
		{"port unreachable 6", true, message(1, 4, [4]byte{}, ip6(ipUDP, ports)), udp6, Answer{Kind: ICMPError, Type: 1, Code: 4}},
		{"of a fragment 6", true, message(1, 4, [4]byte{}, ip6(ipFragment, append(fragment, ports...))), udp6, Answer{Kind: ICMPError, Type: 1, Code: 4}},
		{"time exceeded", false, message(11, 0, [4]byte{}, ip4(ipICMP, 0, echo4)), Key{Src: src4, Dst: dst4, ID: 7, Seq: 9}, Answer{Kind: ICMPError, Type: 11}},
		{"time exceeded 6", true, message(3, 0, [4]byte{}, ip6(ipICMP6, echo6)), Key{Src: src6, Dst: dst6, ID: 7, Seq: 9}, Answer{Kind: ICMPError, Type: 3}},
		{"too big", false, message(3, 4, mtu1400, ip4(ipTCP, 0, tcp)), Key{Proto: TCP, Src: src4, Dst: dst4, Sport: 40000, Dport: 443, Seq: 0x01020304}, Answer{Kind: ICMPError, Type: 3, Code: 4, MTU: 1400}},
		{"too big 6", true, message(2, 0, mtu1400, ip6(ipUDP, ports)), udp6, Answer{Kind: ICMPError, Type: 2, MTU: 1400}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			self, from := src4, router4
			if tt.six {
				self, from = src6, router6
			}
			k, a, carried, ok := parseICMP(self, from, tt.b)
			tt.want.From = from
			if !ok {
				t.Fatal("it was not understood")
			}
			if d := cmp.Diff(tt.key, k, cmpAddrs()); d != "" {
				t.Errorf("key (-want +got):\n%s", d)
			}
			if d := cmp.Diff(tt.want, a, cmpAddrs()); d != "" {
				t.Errorf("answer (-want +got):\n%s", d)
			}
			if a.Kind == EchoReply && string(carried) != "carried" {
				t.Errorf("it carries %q", carried)
			}
		})
	}
}

// TestParseICMPRefuses gives what answers no probe.
func TestParseICMPRefuses(t *testing.T) {
	later := ip4(ipUDP, 0, make([]byte, 8))
	later[7] = 1 // of the offset
	for name, b := range map[string][]byte{
		"nothing":            nil,
		"short":              make([]byte, 7),
		"echo request":       message(8, 0, [4]byte{}, nil),
		"IPv6's echo reply":  message(129, 0, [4]byte{}, nil),
		"redirect":           message(5, 0, [4]byte{}, ip4(ipUDP, 0, make([]byte, 8))),
		"quotes nothing":     message(3, 3, [4]byte{}, nil),
		"quotes a header":    message(3, 3, [4]byte{}, ip4(ipUDP, 0, make([]byte, 7))),
		"quotes IPv6":        message(3, 3, [4]byte{}, ip6(ipUDP, make([]byte, 8))),
		"quotes a fragment":  message(3, 3, [4]byte{}, later),
		"quotes a reply":     message(3, 1, [4]byte{}, ip4(ipICMP, 0, make([]byte, 8))),
		"quotes other proto": message(3, 2, [4]byte{}, ip4(47, 0, make([]byte, 8))),
	} {
		if _, a, _, ok := parseICMP(src4, router4, b); ok {
			t.Errorf("%s: understood as %+v", name, a)
		}
	}
}

func TestParseTCP(t *testing.T) {
	k := Key{Proto: TCP, Src: src4, Dst: dst4, Sport: 40000, Dport: 443, Seq: 0xffffffff}
	answer := func(flags byte) []byte {
		return []byte{0x01, 0xbb, 0x9c, 0x40, 1, 1, 1, 1, 0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0}
	}
	for flags, want := range map[byte]Kind{
		tcpSYN | tcpACK: SYNACK, tcpRST | tcpACK: RST,
		tcpACK: 0, tcpSYN: 0, tcpRST: 0, 0x11: 0, // others' segments
	} {
		got, a, ok := parseTCP(src4, dst4, answer(flags))
		if ok != (want != 0) {
			t.Errorf("flags %#x: understood is %t", flags, ok)
		}
		if !ok {
			continue
		}
		if a.Kind != want || got != k {
			t.Errorf("flags %#x: %s for %+v, want %s for %+v", flags, a.Kind, got, want, k)
		}
	}
	if _, _, ok := parseTCP(src4, dst4, answer(tcpSYN | tcpACK)[:19]); ok {
		t.Error("a header cut short was understood")
	}
}

// TestProbeIsUnderstood gives the packets of probes back, as an ICMP error quotes
// them, and checks their checksums.
func TestProbeIsUnderstood(t *testing.T) {
	id := identity{run: 1, number: 2, sentNS: 3}
	for _, k := range []Key{
		{Src: src4, Dst: dst4, ID: 7, Seq: 2},
		{Src: src6, Dst: dst6, ID: 7, Seq: 2},
		{Proto: TCP, Src: src4, Dst: dst4, Sport: 1, Dport: 2, Seq: 3},
		{Proto: TCP, Src: src6, Dst: dst6, Sport: 1, Dport: 2, Seq: 3},
	} {
		var b, covered []byte
		proto := byte(ipTCP)
		if k.Proto == TCP {
			b = syn(k)
			covered = pseudo(k, ipTCP, len(b))
		} else {
			b, proto = echoRequest(k, id.payload(33)), ipICMP
			if k.Dst.Is6() {
				proto = ipICMP6
			}
		}
		if kernels := proto == ipICMP6; !kernels && checksum(covered, b) != 0 {
			t.Errorf("%+v: the checksum is off by %#x", k, checksum(covered, b))
		}
		quoted, ok := quoted4(ip4(proto, 0, b))
		if k.Src.Is6() {
			quoted, ok = quoted6(ip6(proto, b))
		}
		if !ok || quoted != k {
			t.Errorf("%+v is understood as %+v, %t", k, quoted, ok)
		}
	}
}

func TestIdentity(t *testing.T) {
	want := identity{run: 0xdeadbeef, number: 77, sentNS: 1 << 60}
	for _, size := range []int{identitySize, identitySize + 1, 1472} {
		b := want.payload(size)
		if got, ok := parseIdentity(b); !ok || got != want || len(b) != size {
			t.Errorf("of %d bytes %d: %+v, %t", size, len(b), got, ok)
		}
		if _, ok := parseIdentity(b[:identitySize-1]); ok {
			t.Error("a payload cut short was understood")
		}
	}
	if _, ok := parseIdentity(make([]byte, 56)); ok {
		t.Error("a foreign payload was understood")
	}
}

// FuzzParseICMP checks that nothing that comes makes the prober panic, and that
// what it understands has a key of one kind.
func FuzzParseICMP(f *testing.F) {
	f.Add(false, message(3, 3, [4]byte{}, ip4(ipUDP, 8, make([]byte, 8))))
	f.Add(true, message(1, 4, [4]byte{}, ip6(ipFragment, make([]byte, 16))))
	f.Add(false, message(0, 0, [4]byte{}, identity{}.payload(56)))
	f.Fuzz(func(t *testing.T, six bool, b []byte) {
		self, from := src4, router4
		if six {
			self, from = src6, router6
		}
		k, a, carried, ok := parseICMP(self, from, b)
		if !ok {
			return
		}
		parseIdentity(carried)
		if a.Kind != EchoReply && a.Kind != ICMPError || a.From != from {
			t.Errorf("answer %+v", a)
		}
		if a.Kind == ICMPError && k.Src.Is6() != six {
			t.Errorf("key %+v for IPv6 %t", k, six)
		}
	})
}

// FuzzParseTCP checks the same of TCP.
func FuzzParseTCP(f *testing.F) {
	f.Add(syn(Key{Src: src4, Dst: dst4}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if k, a, ok := parseTCP(src4, dst4, b); ok && (a.Kind != SYNACK && a.Kind != RST || k.Proto != TCP) {
			t.Errorf("%+v for %+v", a, k)
		}
	})
}
