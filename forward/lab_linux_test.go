package forward

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/internal/testenv"
	"github.com/nsbpf/nsbpf/topology"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

var (
	ctx    = context.Background()
	update = flag.Bool("update", false, "rewrite testdata/nat-wan.json from a running lab")
)

// TestStore rewrites what the pure tests begin with.
func TestStore(t *testing.T) {
	if !*update {
		t.Skip("without -update")
	}
	net, err := ReadNet(up(t, "nat-wan"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(net)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join("testdata", "nat-wan.json"), append(b, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
}

// up brings a preset up, with a simulated outside if its name ends in "-wan", or
// a file if it has lines.
func up(t testing.TB, name string) *topology.Lab {
	t.Helper()
	testenv.Root(t)
	base, wan := strings.CutSuffix(name, "-wan")
	var topo *topology.Topology
	var err error
	if name == "routers" {
		topo, err = topology.Load("../examples/routers.yaml")
	} else if strings.Contains(name, "\n") {
		topo, err = topology.Parse("test.yaml", []byte(name))
	} else {
		topo, err = topology.Load(base)
	}
	if err == nil && wan {
		topo, err = topo.WithWAN()
	}
	if err != nil {
		t.Fatal(err)
	}
	lab, err := topology.Up(ctx, topo, topology.UpOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := topology.Down(ctx, lab.Name, topology.DownOptions{}); err != nil && !errors.Is(err, topology.ErrNotUp) {
			t.Error(err)
		}
	})
	return lab
}

// walk reads the lab and follows what is asked.
func walk(t testing.TB, lab *topology.Lab, a Ask) *Journey {
	t.Helper()
	net, err := ReadNet(lab)
	if err != nil {
		t.Fatal(err)
	}
	p, err := net.Packet(a)
	if err != nil {
		t.Fatal(err)
	}
	j, err := Walk(net, a.From, p)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func TestPresets(t *testing.T) {
	for _, tt := range []struct {
		lab        string
		ask        Ask
		want, back []string
	}{
		{"pair", Ask{From: "left", To: "right"},
			[]string{"left:left-veth out", "right:right-veth in", "delivered right"},
			[]string{"right:right-veth out", "left:left-veth in", "delivered left"}},
		{"pair", Ask{From: "left", To: "right", IPv6: true},
			[]string{"left:left-veth out", "right:right-veth in", "delivered right"},
			[]string{"right:right-veth out", "left:left-veth in", "delivered left"}},
		{"bridge", Ask{From: "left", To: "right"},
			[]string{"left:left-veth out", "host:left-br0-veth in", "host:right-br0-veth out", "right:right-veth in", "delivered right"},
			[]string{"right:right-veth out", "host:right-br0-veth in", "host:left-br0-veth out", "left:left-veth in", "delivered left"}},
		{"nat-wan", Ask{From: "left", To: "8.8.8.8"},
			[]string{"left:left-veth out", "host:left-br0-veth in", "host:br0 in",
				"host:eth0 out snat ICMP 192.0.2.2 > 8.8.8.8", "wan:eth0 in", "delivered wan"},
			[]string{"wan:eth0 out", "host:eth0 in", "host:br0 out snat-back ICMP 8.8.8.8 > 172.16.16.10",
				"host:left-br0-veth out", "left:left-veth in", "delivered left"}},
		{"nat-wan", Ask{From: "left", To: "2001:4860:4860::8888"},
			[]string{"left:left-veth out", "host:left-br0-veth in", "host:br0 in",
				"host:eth0 out snat ICMPv6 2001:db8::2 > 2001:4860:4860::8888", "wan:eth0 in", "delivered wan"},
			[]string{"wan:eth0 out", "host:eth0 in", "host:br0 out snat-back ICMPv6 2001:4860:4860::8888 > fd16::10",
				"host:left-br0-veth out", "left:left-veth in", "delivered left"}},
		{"nat-wan", Ask{From: "left", To: "right"},
			[]string{"left:left-veth out", "host:left-br0-veth in", "host:right-br0-veth out", "right:right-veth in", "delivered right"},
			[]string{"right:right-veth out", "host:right-br0-veth in", "host:left-br0-veth out", "left:left-veth in", "delivered left"}},
		{"routers", Ask{From: "a", To: "b"},
			[]string{"a:eth0 out", "r1:eth0 in", "r1:eth1 out", "r2:eth0 in", "r2:eth1 out", "b:eth0 in", "delivered b"},
			[]string{"b:eth0 out", "r2:eth1 in", "r2:eth0 out", "r1:eth1 in", "r1:eth0 out", "a:eth0 in", "delivered a"}},
	} {
		t.Run(tt.lab+" "+tt.ask.To, func(t *testing.T) {
			j := walk(t, up(t, tt.lab), tt.ask)
			if diff := cmp.Diff(tt.want, sketch(j)); diff != "" {
				t.Errorf("journey (-want +got):\n%s", diff)
			}
			if j.Back == nil {
				t.Fatal("no way back")
			}
			if diff := cmp.Diff(tt.back, sketch(j.Back)); diff != "" {
				t.Errorf("way back (-want +got):\n%s", diff)
			}
		})
	}
}
