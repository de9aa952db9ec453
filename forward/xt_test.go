package forward

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// what says what a chain at hook forward does to a UDP packet: its verdict, the mark
// that the packet then has, and what is not known.
func what(chains ...Chain) (verdict string, mark uint32, doubts []string) {
	n := &Node{Name: "n", Tables: []Table{{Family: "ip", Name: "t", Chains: chains}}}
	pkt := Packet{Src: addr("10.0.0.1"), Dst: addr("10.0.0.2"), Proto: UDP, Sport: 1, Dport: 2}
	track := tracked{state: stateNew, conn: &conn{orig: tupleOf(&pkt), now: tupleOf(&pkt)}}
	p := n.hook(place{family: "ip", hook: "forward", in: "a", out: "b"}, &pkt, &track, netip.Addr{})
	for _, o := range p.doubts {
		doubts = append(doubts, o.verdict+" by "+o.rule.Text+": "+o.why)
	}
	return p.verdict, pkt.Mark, doubts
}

// TestUnsure follows chains with a match that is not understood.
func TestUnsure(t *testing.T) {
	unknown := Expr{Op: "match", Key: "set"}
	say := func(verdict, chain string) Expr { return Expr{Op: "immediate", Verdict: verdict, Chain: chain} }
	setMark := Expr{Op: "target", Key: "MARK", Data: binary.BigEndian.AppendUint64(nil, 7<<32|0xffffffff)}
	base := func(policy string, lines ...Line) Chain {
		return Chain{Name: "FORWARD", Hook: "forward", Kind: "filter", Policy: policy, Rules: lines}
	}
	chain := func(lines ...Line) Chain { return Chain{Name: "c", Rules: lines} }
	line := func(exprs ...Expr) Line { return Line{Handle: 1, Exprs: exprs} }
	for _, tt := range []struct {
		name   string
		chains []Chain
		want   string
		mark   uint32
		doubts []string
	}{
		{"a drop", []Chain{base("accept", line(unknown, say("drop", "")))}, "accept", 0, []string{"drop by [set] drop: the iptables match set"}},
		{"an accept before the policy", []Chain{base("drop", line(unknown, say("accept", "")))}, "accept", 0,
			[]string{"drop by policy drop: the iptables match set"}},
		{"the same as the policy", []Chain{base("drop", line(unknown, say("drop", "")))}, "drop", 0, nil},
		{"a return, then a drop", []Chain{base("accept", line(say("jump", "c"))), chain(line(unknown, say("return", "")), line(say("drop", "")))},
			"accept", 0, []string{"drop by drop: the iptables match set"}},
		{"a return, then a drop, then a drop", []Chain{base("drop", line(say("jump", "c"))), chain(line(unknown, say("return", "")), line(say("drop", "")))},
			"drop", 0, nil},
		{"a jump to a drop", []Chain{base("accept", line(unknown, say("jump", "c"))), chain(line(say("drop", "")))},
			"accept", 0, []string{"drop by drop: the iptables match set"}},
		{"a goto, then a drop", []Chain{base("accept", line(unknown, say("goto", "c")), line(say("drop", ""))), chain()},
			"accept", 0, []string{"drop by drop: the iptables match set"}},
		{"a mark", []Chain{base("accept", line(setMark))}, "accept", 7, nil},
		{"perhaps a mark", []Chain{base("accept", line(unknown, setMark))}, "accept", 0,
			[]string{"changes by [set] meta mark set 0x7: the iptables match set"}},
		{"perhaps a chain that marks", []Chain{base("accept", line(unknown, say("jump", "c"))), chain(line(setMark))}, "accept", 0,
			[]string{"changes by meta mark set 0x7: the iptables match set"}},
		{"a target that is not known", []Chain{base("accept", line(Expr{Op: "target", Key: "TPROXY"}))}, "queue", 0, nil},
		{"a mark that is not understood", []Chain{base("accept", line(Expr{Op: "target", Key: "MARK"}))}, "queue", 0, nil},
		{"a log", []Chain{base("accept", line(Expr{Op: "target", Key: "LOG"}))}, "accept", 0, nil},
	} {
		verdict, mark, doubts := what(tt.chains...)
		if verdict != tt.want || mark != tt.mark {
			t.Errorf("%s: %s with mark %d, want %s with %d", tt.name, verdict, mark, tt.want, tt.mark)
		}
		if diff := cmp.Diff(tt.doubts, doubts); diff != "" {
			t.Errorf("%s: doubts (-want +got):\n%s", tt.name, diff)
		}
	}
}

// TestDiscovery lets neighbour discovery meet rules on a bridge.
func TestDiscovery(t *testing.T) {
	net, _ := stored(t)
	host := net.Node("host")
	host.Sysctls["net.bridge.bridge-nf-call-ip6tables"] = "1"
	host.Tables = append(host.Tables, Table{Family: "ip6", Name: "filter", Chains: []Chain{
		{Name: "FORWARD", Hook: "forward", Kind: "filter", Policy: "drop"}, {Name: "DOCKER-USER"},
	}})
	net.Node("left").Neighbours = nil
	j, err := Walk(net, "left", Packet{Dst: addr("fd16::20")})
	if err != nil {
		t.Fatal(err)
	}
	o := j.stop()
	if o == nil || len(j.Steps) != 0 || o.Node != "left" || o.Code != Unresolved ||
		!strings.Contains(o.Sentence, "the question who has fd16::20: dropped by `policy drop` (table ip6 filter, chain FORWARD) in host, forward; it is bridged by br0") ||
		!strings.HasPrefix(o.Advice, "`nsbpf exec host -- ip6tables -I DOCKER-USER -i br0 -o br0 -j ACCEPT`, or ") {
		t.Errorf("%d steps, stopped by %+v", len(j.Steps), o)
	}
	ask := Solicitation(addr("fd16::10"), addr("fd16::20"))
	if want := addr("ff02::1:ff00:20"); ask.Dst != want {
		t.Errorf("solicitation to %s, want %s", ask.Dst, want)
	}
	if o := host.StopsBridged("left-br0-veth", ask); o == nil || o.Rule.Chain != "FORWARD" {
		t.Errorf("stops %+v", o)
	}
	host.Sysctls["net.bridge.bridge-nf-call-ip6tables"] = "0"
	if o := host.StopsBridged("left-br0-veth", ask); o != nil {
		t.Errorf("without br_netfilter stops %+v", o)
	}
	if j, _ := Walk(net, "left", Packet{Dst: addr("fd16::20")}); j.End != Delivered {
		t.Errorf("without br_netfilter %+v", j.Obstacles)
	}
}
