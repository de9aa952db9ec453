package topology

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/internal/hop"
)

// TestHops compares hops and edges with testdata/*-hops.golden, where a veth
// pair is "=>" and any other edge "->".
func TestHops(t *testing.T) {
	all := variants(t)
	for name, xdp := range map[string]bool{"pair": true, "bridge": false, "nat-wan": false, "nat-uplinks": false} {
		hops := all[name].Hops(xdp)
		var b strings.Builder
		for _, h := range hops {
			fmt.Fprintf(&b, "%2d %s %s\n", h.ID, h, h.Kind)
		}
		for _, e := range all[name].Edges(hops) {
			arrow := "->"
			if e.Wire {
				arrow = "=>"
			}
			fmt.Fprintf(&b, "%s %s %s\n", hops[e.From], arrow, hops[e.To])
		}
		golden(t, name+"-hops", b.String())
	}
}

func TestHopsOfVariants(t *testing.T) {
	for name, topo := range variants(t) {
		t.Run(name, func(t *testing.T) { checkHops(t, topo) })
	}
}

// checkHops checks what holds for the hops and edges of every topology.
func checkHops(t *testing.T, topo *Topology) {
	t.Helper()
	hops := topo.Hops(true)
	seen := map[string]bool{}
	for i, h := range hops {
		if int(h.ID) != i || seen[h.String()] || topo.Node(h.Node) == nil {
			t.Fatalf("hop %d is %+v", i, h)
		}
		seen[h.String()] = true
	}
	if tc := topo.Hops(false); !cmp.Equal(tc, hops[:len(tc)]) {
		t.Fatal("XDP hops change the numbers of the others")
	}
	wires, edges := 0, map[[2]hop.ID]bool{}
	for _, e := range topo.Edges(hops) {
		from, to := hops[e.From], hops[e.To]
		if pair := [2]hop.ID{e.From, e.To}; edges[pair] || e.From == e.To {
			t.Fatalf("edge %s to %s stands twice or is a loop", from, to)
		} else {
			edges[pair] = true
		}
		if e.Wire {
			wires++
			if from.Direction != hop.Egress || to.Direction != hop.Ingress {
				t.Fatalf("wire from %s to %s", from, to)
			}
		} else if from.Node != to.Node && to.Layer != hop.XDP {
			t.Fatalf("%s and %s are joined without a wire", from, to)
		}
	}
	if wires != 2*len(topo.Links) {
		t.Fatalf("%d wires for %d links", wires, len(topo.Links))
	}
}

func TestEdgesOfSomeHops(t *testing.T) {
	topo := load(t, "pair")
	hops := topo.Hops(false)[1:3] // left out, right in
	want := []hop.Edge{{From: 1, To: 2, Wire: true}}
	if diff := cmp.Diff(want, topo.Edges(hops)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestLocalAddrs(t *testing.T) {
	topo := must[*Topology](t)(load(t, "nat").WithWAN())
	for node, want := range map[string]string{
		"left": "172.16.16.10 fd16::10",
		"host": "172.16.16.1 fd16::1 192.0.2.2 2001:db8::2",
		"wan":  "8.8.8.8 2001:4860:4860::8888 192.0.2.1 2001:db8::1",
		"none": "",
	} {
		var addrs []netip.Addr
		for _, f := range strings.Fields(want) {
			addrs = append(addrs, netip.MustParseAddr(f))
		}
		if diff := cmp.Diff(addrs, topo.LocalAddrs(node), same...); diff != "" {
			t.Errorf("%s (-want +got):\n%s", node, diff)
		}
	}
}

func BenchmarkEdges(b *testing.B) {
	var src strings.Builder
	src.WriteString("bridges: {br0: }\nlinks:\n")
	for i := range 300 {
		fmt.Fprintf(&src, "  - [n%d, br0]\n", i)
	}
	topo := parse(b, src.String())
	hops := topo.Hops(false)
	for b.Loop() {
		topo.Edges(hops)
	}
}
