package forward

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// uplinked returns the stored lab with an uplink in place of the simulated outside.
func uplinked(t testing.TB) *Net {
	net, _ := stored(t)
	net.Nodes = slices.DeleteFunc(net.Nodes, func(n *Node) bool { return n.Name == "wan" })
	d := net.Node("host").Device("eth0")
	d.Peer, d.Kind = "", ""
	return net
}

// TestAnswerFromOutside follows what leaves the lab, and the answer that may come.
func TestAnswerFromOutside(t *testing.T) {
	answers := []Expr{
		{Op: "ct", Key: "state", Dst: 1},
		{Op: "bitwise", Src: 1, Dst: 1, Len: 4, Data: Bytes{6, 0, 0, 0}, To: Bytes{0, 0, 0, 0}},
		{Op: "cmp", Cmp: "!=", Src: 1, Data: Bytes{0, 0, 0, 0}},
	}
	fromLab := []Expr{{Op: "meta", Key: "iifname", Dst: 1}, {Op: "cmp", Cmp: "==", Src: 1, Data: Bytes("br0\x00")}}
	out := []string{"left:left-veth out", "host:left-br0-veth in", "host:br0 in", "host:eth0 out snat ICMP 192.0.2.2 > 9.9.9.9", "left_lab host"}
	const unknown = "unknown outside: what is outside is not known; an answer would take this way"
	back := []string{"host:eth0 in", "host:br0 out snat-back ICMP 9.9.9.9 > 172.16.16.10", "host:left-br0-veth out", "left:left-veth in", "delivered left", unknown}
	for _, tt := range []struct {
		name   string
		change func(host *Node)
		to     string
		want   []string // of the answer
	}{
		{"masqueraded", func(*Node) {}, "9.9.9.9", back},
		{"policy drop, what the lab sends is accepted", func(host *Node) {
			host.filter("accept", fromLab...)
			host.Tables[len(host.Tables)-1].Chains[0].Policy = "drop"
		}, "9.9.9.9", []string{"host:eth0 in", "stopped host", unknown, "stops netfilter: dropped by `policy drop` (table ip f, chain c) in host, forward"}},
		{"policy drop, answers are accepted", func(host *Node) {
			host.filter("accept", fromLab...)
			host.filter("accept", answers...)
			host.Tables[len(host.Tables)-1].Chains[0].Policy = "drop"
		}, "9.9.9.9", back},
		{"not masqueraded", func(host *Node) { host.Tables = nil }, "9.9.9.9", []string{
			"host:eth0 in", "host:br0 out", "host:left-br0-veth out", "left:left-veth in", "delivered left",
			"unknown outside: what is outside is not known, nor whether it has a route to 172.16.16.10; an answer would take this way",
		}},
		{"the uplink is a bridge port", func(host *Node) {
			d := host.Device("eth0")
			d.Master, d.Port = "br0", "forwarding"
		}, "172.16.16.99", []string{"host:eth0 in", "host:left-br0-veth out", "left:left-veth in", "delivered left", unknown}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			net := uplinked(t)
			tt.change(net.Node("host"))
			j, err := Walk(net, "left", Packet{Dst: addr(tt.to)})
			if err != nil {
				t.Fatal(err)
			}
			if got := sketch(j); tt.to == "9.9.9.9" && len(net.Node("host").Tables) > 0 && !cmp.Equal(out, got) {
				t.Errorf("out (-want +got):\n%s", cmp.Diff(out, got))
			}
			if j.Back == nil {
				t.Fatalf("no answer:\n%s", strings.Join(sketch(j), "\n"))
			}
			if diff := cmp.Diff(tt.want, sketch(j.Back)); diff != "" || j.Back.From != "" {
				t.Errorf("the answer, from %q (-want +got):\n%s", j.Back.From, diff)
			}
		})
	}
}

// TestNoAnswerFromOutside: what nobody answers, or everybody, is not followed back.
func TestNoAnswerFromOutside(t *testing.T) {
	for _, p := range []Packet{{Dst: addr("9.9.9.9"), Proto: ICMP, Type: 11}, {Dst: addr("192.0.2.255")}} {
		if j, err := Walk(uplinked(t), "host", p); err != nil || j.Back != nil {
			t.Errorf("%s: %v, %+v", p, err, j)
		}
	}
}
