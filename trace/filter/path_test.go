package filter

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/internal/hop"
)

// way is a Path of frames.
type way struct {
	hops         []hop.ID
	frames       [][]byte
	packets      []*bpf.Packet
	drop, unsure bool
	took         time.Duration
	nat          bool
	attempts     int
}

func (w *way) Len() int                   { return len(w.packets) }
func (w *way) Hop(i int) hop.ID           { return w.hops[i] }
func (w *way) Packet(i int) *bpf.Packet   { return w.packets[i] }
func (w *way) Dropped() (yes, known bool) { return w.drop, !w.unsure }
func (w *way) Latency() time.Duration     { return w.took }
func (w *way) Readdressed() bool          { return w.nat }
func (w *way) Attempts() int              { return w.attempts }

var testHops = []hop.Hop{
	{ID: 0, Node: "left", Device: "left-veth", Direction: hop.Ingress},
	{ID: 1, Node: "left", Device: "left-veth", Direction: hop.Egress},
	{ID: 4, Node: "host", Device: "br0", Direction: hop.Ingress},
	{ID: 5, Node: "host", Device: "br0", Direction: hop.Egress},
	{ID: 6, Node: "host", Device: "eth0", Direction: hop.Ingress},
	{ID: 9, Node: "or", Device: "out.5", Direction: hop.Egress},
}

func mustOnPaths(t testing.TB, e *Expr) func(Path) bool {
	t.Helper()
	wants, err := e.OnPaths(testHops)
	if err != nil {
		t.Fatal(err)
	}
	return wants
}

// TestSplit has what is asked of a packet and what of its Path.
func TestSplit(t *testing.T) {
	for _, tt := range []struct{ expr, canonical, packet, path string }{
		{"tcp and not port 80", "tcp and not port 80", "tcp and not port 80", ""},
		{"dropped", "dropped", "", "dropped"},
		{"not  dropped", "not dropped", "", "not dropped"},
		{"tcp and dropped and port 80", "tcp and dropped and port 80", "tcp and port 80", "dropped"},
		{"tcp or dropped", "tcp or dropped", "", "tcp or dropped"},
		{"tcp or udp and dropped", "tcp or udp and dropped", "tcp or udp", "dropped"},
		{"(tcp or natted) and (not udp) and (dropped and ip)", "tcp or natted and not udp and (dropped and ip)", "not udp and ip", "tcp or natted and dropped"},
		{"not (tcp and dropped) and ip", "not (tcp and dropped) and ip", "ip", "not (tcp and dropped)"},
		{"node left or right and node host", "node left or node right and node host", "", "node left or node right and node host"},
		{`node (left and not \or) or tcp`, `node left and not node \or or tcp`, "", `node left and not node \or or tcp`},
		{"hop host:br0 in or host:br0:out or left:v", "hop host:br0 in or hop host:br0 out or hop left:v", "", "hop host:br0 in or hop host:br0 out or hop left:v"},
		{"hop host:br0 and host 10.1.2.3", "hop host:br0 and host 10.1.2.3", "host 10.1.2.3", "hop host:br0"},
		{"latency>1500us && latency <= 1.5µs or latency < 1h && latency >= 10μs", "latency > 1.5ms and latency <= 1.5µs or latency < 1h0m0s and latency >= 10µs",
			"", "latency > 1.5ms and latency <= 1.5µs or latency < 1h0m0s and latency >= 10µs"},
		{"vlan and retransmitted and ip", "vlan and retransmitted and ip", "vlan and ip", "retransmitted"},
	} {
		e, err := Parse(tt.expr)
		if err != nil {
			t.Errorf("Parse(%q): %v", tt.expr, err)
			continue
		}
		path := ""
		if e.path != nil {
			path = e.path.String()
		}
		want := []string{tt.canonical, tt.packet, tt.path}
		if diff := cmp.Diff(want, []string{e.String(), e.Kernel().String(), path}); diff != "" {
			t.Errorf("Parse(%q) (-want +got):\n%s", tt.expr, diff)
		}
		checkCanonical(t, tt.expr)
	}
}

// TestOnPaths has the meaning of expressions on Paths.
func TestOnPaths(t *testing.T) {
	tcp := func(src, dst string) *bpf.Packet {
		return &bpf.Packet{
			EtherType: typeIPv4, Proto: protoTCP, NextHdr: protoTCP, Flags: bpf.PacketPorts, Sport: 40000, Dport: 80,
			Src: v4In16(addrBytes(src)), Dst: v4In16(addrBytes(dst)),
		}
	}
	sctp := &bpf.Packet{EtherType: typeIPv4, NextHdr: protoSCTP, Proto: protoSCTP, Dst: [16]byte{15: 1}}
	translated := &way{
		hops: []hop.ID{1, 4, 9}, took: time.Millisecond, nat: true, attempts: 2,
		packets: []*bpf.Packet{tcp("10.0.0.1", "8.8.8.8"), tcp("10.0.0.1", "8.8.8.8"), tcp("192.0.2.2", "8.8.8.8")},
	}
	lost := &way{hops: []hop.ID{5}, packets: []*bpf.Packet{sctp}, drop: true, attempts: 1}
	unsure := &way{hops: []hop.ID{6}, packets: []*bpf.Packet{tcp("10.0.0.1", "8.8.8.8")}, drop: true, unsure: true, attempts: 1}
	const isTranslated, isLost, isUnsure = 1, 2, 4
	for _, tt := range []struct {
		expr string
		want int
	}{
		{"dropped", isLost}, {"not dropped", isTranslated}, {"dropped or not dropped", isTranslated | isLost},
		{"natted", isTranslated}, {"not natted", isLost | isUnsure}, {"retransmitted", isTranslated}, {"not retransmitted", isLost | isUnsure},
		{"node left", isTranslated}, {"node host", isTranslated | isLost | isUnsure}, {"node left and host", isTranslated}, {"node (host and not left)", isLost | isUnsure},
		{`node \or`, isTranslated}, {"not node left", isLost | isUnsure},
		{"hop host:br0", isTranslated | isLost}, {"hop host:br0 in", isTranslated}, {"hop host:br0 out", isLost}, {"hop host:br0:out", isLost},
		{"hop left:left-veth in", 0}, {"hop host:eth0 or or:out.5", isTranslated | isUnsure},
		{"latency >= 1ms", isTranslated}, {"latency > 1ms", 0}, {"latency <= 0s", isLost | isUnsure}, {"latency < 1ms", isLost | isUnsure},
		// A condition on packets holds where it holds at any hop, not at none.
		{"host 192.0.2.2 or dropped", isTranslated | isLost}, {"not host 10.0.0.1 or dropped", isLost},
		{"natted or port 80", isTranslated | isUnsure}, {"(host 10.0.0.1 and host 192.0.2.2) or dropped", isTranslated | isLost},
		// What is not known neither holds nor does not.
		{"not (natted or port 80)", 0}, {"not (natted or sctp)", isUnsure}, {"not dropped or port 80", isTranslated | isUnsure},
		{"dropped and port 80 or natted", isTranslated}, {"not (dropped and natted)", isTranslated | isLost | isUnsure},
	} {
		wants := mustOnPaths(t, mustParse(t, tt.expr))
		got := 0
		for i, w := range []*way{translated, lost, unsure} {
			if wants(w) {
				got |= 1 << i
			}
		}
		if got != tt.want {
			t.Errorf("%q: got %03b, want %03b", tt.expr, got, tt.want)
		}
	}
}

// TestOnPathsErrors has places that a lab does not have.
func TestOnPathsErrors(t *testing.T) {
	for _, tt := range []struct{ expr, caret string }{
		{"tcp and node lefft", `             ^ node "lefft" does not exist (did you mean "left"?)`},
		{"node elsewhere", `     ^ node "elsewhere" does not exist (there are host, left and or)`},
		{"dropped or hop host:br1", `               ^ hop "host:br1" does not exist (did you mean "host:br0"?)`},
		{"not hop x:y in", `        ^ hop "x:y" does not exist (there are host:br0, host:eth0, left:left-veth and or:out.5)`},
		{"hop host:eth0 out", `    ^ host:eth0 is not traced out (only in)`},
		{"natted and (node left or right)", `                         ^ node "right" does not exist (there are host, left and or)`},
	} {
		_, err := mustParse(t, tt.expr).OnPaths(testHops)
		checkCaret(t, tt.expr, tt.caret, err)
	}
	_, err := mustParse(t, "node left").OnPaths(nil)
	checkCaret(t, "node left", `     ^ node "left" does not exist (there are none)`, err)
}

// TestCompileOwn has the words that a program cannot ask for.
func TestCompileOwn(t *testing.T) {
	const hint = " is known of a packet's whole path only (a trace can select by it, a program that sees the packet at one hop cannot)"
	for _, tt := range []struct{ expr, caret string }{
		{"dropped", "^ dropped" + hint},
		{"udp port 9 and not latency > 1ms", "                   ^ latency" + hint},
		{"(tcp or not (node (left or right) and natted))", "                   ^ node" + hint},
		{"hop host:br0 in", "    ^ hop" + hint},
	} {
		e := mustParse(t, tt.expr)
		_, err := e.Compile()
		checkCaret(t, tt.expr, tt.caret, err)
		if _, err := e.Kernel().Compile(); err != nil {
			t.Errorf("%q: %v", tt.expr, err)
		}
	}
}

// paths is a generator of expressions with own words, of ways, and of what the
// one makes of the other by libpcap and by what the words mean.
type paths struct {
	exprs
	t *testing.T
}

// onPath returns an expression and its meaning on a way.
func (g paths) onPath(depth int) (string, func(*way) bool) {
	if depth == 0 {
		return g.leaf()
	}
	l, left := g.onPath(depth - 1)
	r, right := g.onPath(g.IntN(depth))
	switch g.IntN(3) {
	case 0:
		return "not (" + l + ")", func(w *way) bool { return !left(w) }
	case 1:
		return "(" + l + ") and (" + r + ")", func(w *way) bool { return left(w) && right(w) }
	default:
		return "(" + l + ") or (" + r + ")", func(w *way) bool { return left(w) || right(w) }
	}
}

func (g paths) leaf() (string, func(*way) bool) {
	switch g.IntN(8) {
	case 0:
		return "dropped", func(w *way) bool { return w.drop }
	case 1:
		return "natted", func(w *way) bool { return w.nat }
	case 2:
		return "retransmitted", func(w *way) bool { return w.attempts > 1 }
	case 3:
		bound := time.Duration(g.IntN(5)) * time.Microsecond
		return fmt.Sprintf("latency > %v", bound), func(w *way) bool { return w.took > bound }
	case 4, 5:
		h := pick(g.Rand, testHops)
		return "hop " + h.String(), func(w *way) bool { return slices.Contains(w.hops, h.ID) }
	default:
		s := g.words()
		o := pcapOracle(g.t, s)
		return s, func(w *way) bool { return o.anywhere(g.t, w) }
	}
}

func (o oracle) anywhere(t *testing.T, w *way) bool {
	return slices.ContainsFunc(w.frames, func(f []byte) bool { return o.match(t, f) })
}

func (g paths) way() *way {
	w := &way{
		drop: g.IntN(2) == 0, nat: g.IntN(2) == 0, attempts: 1 + g.IntN(2), took: time.Duration(g.IntN(5)) * time.Microsecond,
	}
	for range 1 + g.IntN(3) {
		f := frames{g.Rand, false}.frame()
		w.hops = append(w.hops, pick(g.Rand, testHops).ID)
		w.frames, w.packets = append(w.frames, f), append(w.packets, readFrame(f))
	}
	return w
}

// TestOnPathsAsLibpcap compares what becomes of a Path with libpcap and the
// meaning of the own words: the kernel selects a packet at one hop by all that
// is asked of packets, and the rest is asked of all its hops.
func TestOnPathsAsLibpcap(t *testing.T) {
	needTcpdump(t)
	g := paths{exprs{rand.New(rand.NewPCG(9, 1))}, t}
	var ways []*way
	for range 200 {
		ways = append(ways, g.way())
	}
	var held, judged int
	for range 300 {
		packet := g.tree(g.IntN(2))
		path, meant := g.onPath(g.IntN(4))
		// With or it is the Path that is asked, whatever the expression is.
		expr := "(" + packet + ") and dropped and (" + path + " or latency < 0s)"
		e, o := mustParse(t, expr), pcapOracle(t, packet)
		wants := mustOnPaths(t, e)
		for _, w := range ways {
			got := wants(w) && slices.ContainsFunc(w.packets, e.Kernel().Match)
			want := w.drop && meant(w) && o.anywhere(t, w)
			if got != want {
				t.Errorf("%q: got %v, want %v\n%+v\n%x", expr, got, want, w, w.frames)
				break
			}
			judged++
			if want {
				held++
			}
		}
	}
	if held*20 < judged {
		t.Errorf("%d of %d held: the generators say little", held, judged)
	}
}
