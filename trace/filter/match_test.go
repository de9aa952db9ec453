package filter

import (
	"math/rand/v2"
	"os/exec"
	"slices"
	"testing"

	"github.com/nsbpf/nsbpf/bpf"
)

func mustParse(t testing.TB, expr string) *Expr {
	t.Helper()
	e, err := Parse(expr)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func needTcpdump(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("tcpdump"); err != nil {
		missing(t, "tcpdump")
	}
}

// someExprs returns the tricky expressions and n generated ones.
func someExprs(seed uint64, n int) []string {
	g := exprs{rand.New(rand.NewPCG(seed, 1))}
	list := slices.Clone(trickyExprs)
	for range n {
		list = append(list, g.expr(g.IntN(4)))
	}
	return list
}

func someFrames(seed uint64, n int, sctp bool) [][]byte {
	g := frames{rand.New(rand.NewPCG(seed, 2)), sctp}
	var list [][]byte
	for range n {
		list = append(list, g.frame())
	}
	return list
}

// TestMatchAsLibpcap compares with what libpcap makes of the same expressions and
// of their canonical forms.
func TestMatchAsLibpcap(t *testing.T) {
	needTcpdump(t)
	all := someFrames(1, 500, false)
	var held, judged int
	for _, expr := range someExprs(1, 400) {
		e, o := mustParse(t, expr), pcapOracle(t, expr)
		canonical := pcapOracle(t, e.String())
		for _, f := range all {
			p := readFrame(f)
			got, want := e.Match(p), o.match(t, f)
			if got != want || canonical.match(t, f) != want {
				t.Errorf("%q (%s): Match is %v, libpcap has %v\n%+v\n%x", expr, e, got, want, p, f)
				break
			}
			judged++
			if want {
				held++
			}
		}
	}
	if held*20 < judged || held*20 > 19*judged {
		t.Errorf("%d of %d matched: the generators say little", held, judged)
	}
}

// TestMatchStrict checks that what a Packet does not tell never makes a match
// that libpcap, which sees the whole frame, would not make.
func TestMatchStrict(t *testing.T) {
	needTcpdump(t)
	r := rand.New(rand.NewPCG(3, 3))
	all := someFrames(3, 400, true)
	var held int
	for _, expr := range someExprs(2, 150) {
		e, o := mustParse(t, expr), pcapOracle(t, expr)
		for _, f := range all {
			cut := f[:14+r.IntN(len(f)-13)]
			p := readFrame(cut)
			p.Len = uint32(len(f)) // what is cut off is there, and could not be read
			if e.Match(p) {
				held++
				if !o.match(t, f) {
					t.Errorf("%q (%s) matches a frame cut to %d that libpcap does not match\n%+v\n%x", expr, e, len(cut), p, f)
					break
				}
			}
		}
	}
	if held < 5000 {
		t.Errorf("%d matched: the generators say little", held)
	}
}

// TestMatchUnread has the packets that neither an expression nor its opposite
// matches.
func TestMatchUnread(t *testing.T) {
	sctp := &bpf.Packet{EtherType: typeIPv4, NextHdr: protoSCTP, Proto: protoSCTP, Dst: [16]byte{15: 1}}
	rarp := &bpf.Packet{EtherType: typeRARP}
	cutTCP := &bpf.Packet{EtherType: typeIPv6, NextHdr: protoTCP, Proto: protoTCP, Dst: [16]byte{15: 1}, Flags: bpf.PacketShort}
	cutICMP := &bpf.Packet{EtherType: typeIPv4, NextHdr: protoICMP, Proto: protoICMP, Dst: [16]byte{15: 1}, Flags: bpf.PacketShort}
	cutIP := &bpf.Packet{EtherType: typeIPv4, Flags: bpf.PacketShort}
	cutFragment := &bpf.Packet{EtherType: typeIPv6, NextHdr: protoFragment, Dst: [16]byte{15: 1}, Flags: bpf.PacketShort}
	cutFrame := &bpf.Packet{Flags: bpf.PacketShort}
	for _, tt := range []struct {
		expr   string
		packet *bpf.Packet
	}{
		{"port 80", sctp}, {"host 10.1.2.3", rarp}, {"net 0.0.0.0/0", rarp},
		{"tcp port 80", cutTCP}, {"portrange 0-80", cutTCP}, {"tcp-syn", cutTCP}, {"icmp[icmptype] == 8", cutICMP},
		{"tcp", cutIP}, {"net 0.0.0.0/0", cutIP}, {"proto 0", cutIP}, {"udp", cutFragment},
		{"ip", cutFrame}, {"ether host 00:00:00:00:00:00", cutFrame}, {"vlan", cutFrame},
	} {
		for _, expr := range []string{tt.expr, "not " + tt.expr, "not not " + tt.expr, "not (" + tt.expr + " and greater 0)"} {
			if mustParse(t, expr).Match(tt.packet) {
				t.Errorf("%q matches %+v", expr, tt.packet)
			}
		}
		whatever := tt.expr + " or greater 0"
		if got, want := mustParse(t, whatever).Match(tt.packet), readable(tt.packet, mustParse(t, tt.expr).need); got != want {
			t.Errorf("%q: Match is %v, want %v of %+v", whatever, got, want, tt.packet)
		}
	}
}

// TestMatchFlagWords tests the words that libpcap does not have alone.
func TestMatchFlagWords(t *testing.T) {
	for i, n := range flagNames {
		e := mustParse(t, n.text)
		p := bpf.Packet{EtherType: typeIPv6, NextHdr: protoTCP, Flags: bpf.PacketPorts, TCPFlags: 1 << i}
		if !e.Match(&p) {
			t.Errorf("%q does not match %+v", e, p)
		}
		p.EtherType = typeIPv4
		if !e.Match(&p) {
			t.Errorf("%q does not match %+v", e, p)
		}
		p.TCPFlags = ^p.TCPFlags
		if e.Match(&p) {
			t.Errorf("%q matches %+v", e, p)
		}
		p.NextHdr = protoUDP
		if e.Match(&p) || !mustParse(t, "not "+n.text).Match(&p) {
			t.Errorf("%q: UDP has no flags: %+v", e, p)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	for b.Loop() {
		if _, err := Parse("tcp port 80 and host 10.1.2.3"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	e := mustParse(b, benchExpr)
	p := readFrame(benchFrame())
	b.ReportAllocs()
	for b.Loop() {
		if !e.Match(p) {
			b.Fatal("no match")
		}
	}
}

const benchExpr = "tcp port 80 and host 10.1.2.3"

// benchFrame returns a frame that benchExpr matches only by its last comparison.
func benchFrame() []byte {
	f := make([]byte, 66)
	f[12], f[14], f[22], f[23] = 8, 0x45, 64, protoTCP
	copy(f[26:], addrBytes("10.1.2.4"))
	copy(f[30:], addrBytes("10.1.2.3"))
	f[34], f[37], f[46] = 0xa0, 80, 8<<4
	return f
}
