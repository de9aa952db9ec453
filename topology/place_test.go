package topology

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// changed returns t and what the transforms make of it.
func changed(t *Topology) []*Topology {
	all := []*Topology{t, t.Isolated(), t.WithUplinks([]string{"eth0"})}
	if w, err := t.WithWAN(); err == nil {
		all = append(all, w)
	}
	for _, v := range all[:len(all):len(all)] {
		if n, err := v.Named("other"); err == nil {
			all = append(all, n)
		}
	}
	return all
}

// scribble writes to everything in t that could be shared with another.
func scribble(t *Topology) {
	for i := range t.Nodes {
		n := &t.Nodes[i]
		n.Name = "scribbled"
		clear(n.Addrs)
		clear(n.Routes)
		clear(n.Masquerade)
		clear(n.Uplinks)
		clear(n.Sysctls)
	}
	for i := range t.Bridges {
		clear(t.Bridges[i].Addrs)
	}
	clear(t.Bridges)
	for i := range t.Links {
		clear(t.Links[i].A.Addrs)
		clear(t.Links[i].B.Addrs)
	}
	clear(t.Links)
}

func TestTransformsCopy(t *testing.T) {
	topo := load(t, "nat").WithUplinks([]string{"up0"})
	topo.Nodes[0].Sysctls = []Sysctl{{"net.ipv4.tcp_ecn", "1"}}
	topo.Nodes[0].Addrs = prefixes("10.9.9.9/32")
	before := must[[]byte](t)(json.Marshal(topo))
	devs := []string{"eth0"}
	for _, v := range append(changed(topo)[1:], topo.WithUplinks(devs)) {
		scribble(v)
		if diff := cmp.Diff(string(before), string(must[[]byte](t)(json.Marshal(topo)))); diff != "" {
			t.Fatalf("a transform's copy shares memory (-want +got):\n%s", diff)
		}
	}
	if devs[0] != "eth0" {
		t.Error("WithUplinks kept its argument")
	}
}

func TestWithUplinks(t *testing.T) {
	devs := []string{"eth0"}
	for name, tt := range map[string]struct {
		topo *Topology
		want []string
	}{
		"forwarding host": {load(t, "nat"), devs},
		"isolated":        {load(t, "nat").Isolated(), nil},
		"no forwarding":   {load(t, "bridge"), nil},
	} {
		if diff := cmp.Diff(tt.want, tt.topo.WithUplinks(devs).Node(HostNode).Uplinks, same...); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if load(t, "pair").WithUplinks(devs).Node(HostNode) != nil {
		t.Error("pair has a host")
	}
}

func TestWithWAN(t *testing.T) {
	for name, tt := range map[string]struct{ src, want string }{
		"pair":    {"links: [[a, b]]", `adding a wan to lab "lab": nothing of it is on node host (try preset nat)`},
		"wan":     {"links: [[host, wan]]", `adding a wan to lab "lab": it has a node "wan" already (rename that)`},
		"subnet":  {"links: [[host 192.0.2.9/24, a]]", `adding a wan to lab "lab": node "host": subnet 192.0.2.0/24 on eth0 overlaps 192.0.2.0/24 on a-host-veth (a node routes each subnet by one device)`},
		"default": {"nodes: {host: {routes: [default via 10.0.0.2]}}\nlinks: [[host 10.0.0.1/24, a]]", `adding a wan to lab "lab": node "host" has two routes to default (remove one)`},
	} {
		if _, err := parse(t, tt.src).WithWAN(); err == nil || err.Error() != tt.want {
			t.Errorf("%s:\n got %v\nwant %s", name, err, tt.want)
		}
	}
	w := must[*Topology](t)(parse(t, "links: [[host:eth0 10.0.0.1/24, a]]").WithWAN())
	if got := w.Links[1].A.Device; got != "eth1" {
		t.Errorf("beside eth0 the way to wan is %s", got)
	}
}

func TestNamed(t *testing.T) {
	for name, want := range map[string]string{
		"":                      `lab name "" is empty`,
		"-x":                    `lab name "-x" is not of the form [a-z0-9][a-z0-9-]* (such as "x")`,
		"a/b":                   `lab name "a/b" is not of the form [a-z0-9][a-z0-9-]* (such as "a-b")`,
		"Ä":                     `lab name "Ä" is not of the form [a-z0-9][a-z0-9-]* (such as "lab")`,
		strings.Repeat("x", 33): `lab name "` + strings.Repeat("x", 33) + `" has 33 bytes (at most 32)`,
	} {
		if _, err := load(t, "pair").Named(name); err == nil || err.Error() != want {
			t.Errorf("Named(%q):\n got %v\nwant %s", name, err, want)
		}
	}
	long := strings.Repeat("x", 32)
	n := must[*Topology](t)(load(t, "bridge").Named(long))
	if b := n.Bridges[0]; len(b.Name) != 15 || b.AltName != long+"-br0" || n.Links[0].B.Bridge != b.Name {
		t.Errorf("bridge %+v with port %+v", b, n.Links[0].B)
	}
	again := must[*Topology](t)(n.Named("q"))
	if again.Node("left").Netns != "q-left" {
		t.Errorf("named twice: %+v", again.Node("left"))
	}
}

func TestGroup(t *testing.T) {
	seen := map[uint32]string{}
	for _, n := range []string{"pair", "bridge", "nat", "a", "b", "lab-1", "lab-2"} {
		g := (&Topology{Name: n}).Group()
		if g>>24 != 'n' || seen[g] != "" {
			t.Errorf("group of %q is %#x, and so is that of %q", n, g, seen[g])
		}
		seen[g] = n
	}
}
