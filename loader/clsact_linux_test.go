package loader

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/internal/testenv"
	"github.com/nsbpf/nsbpf/topology"
)

// uplink gives the host eth0 for the time of the test.
func uplink(t *testing.T) {
	t.Helper()
	testenv.Root(t)
	testenv.Uplink(t)
}

// eth0 is what tc knows of the host's own device.
func eth0(t *testing.T) string {
	t.Helper()
	s := testenv.Run(t, "tc", "qdisc", "show", "dev", "eth0")
	if strings.Contains(s, clsactKind) || strings.Contains(s, "ingress") {
		s += testenv.Run(t, "tc", "filter", "show", "dev", "eth0", "ingress")
	}
	if strings.Contains(s, clsactKind) {
		s += testenv.Run(t, "tc", "filter", "show", "dev", "eth0", "egress")
	}
	return s
}

// TestClsactForeign puts filters beside those of somebody else on the host's own
// device. Whatever was there before is there afterwards, and no more.
func TestClsactForeign(t *testing.T) {
	const add, bytecode = "; tc filter add dev eth0 ingress ", "bpf bytecode '1,6 0 0 4294967295' direct-action"
	for _, tt := range []struct {
		name   string
		before string // commands, of somebody else
		during string
	}{
		{"nothing", "", ""},
		{"qdisc", "tc qdisc add dev eth0 clsact", ""},
		{"filters", "tc qdisc add dev eth0 clsact" + add + bytecode +
			"; tc filter add dev eth0 egress protocol ip u32 match ip dst 10.0.0.1 classid 1:1", ""},
		{"our priority", "tc qdisc add dev eth0 clsact" + add + "prio 19971 " + bytecode, ""},
		{"renamed", "", "ip link set eth0 down; ip link set eth0 name up0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			uplink(t)
			testenv.Run(t, "sh", "-ec", tt.before)
			before := eth0(t)
			lab := up(t, preset(t, "nat-uplink"))
			attachCount(t, lab, Hooks{TC: Clsact})
			addFilter(t, lab, "host:eth0 out", Clsact, "udp port 9")
			tr := startTrace(t, lab, TraceOptions{Hook: Clsact})
			if got := eth0(t); strings.Count(got, "nsbpf/nat/") != 5 {
				t.Errorf("eth0 has not five filters of ours:\n%s", got)
			}
			testenv.Run(t, "sh", "-ec", tt.during)
			detachAll(t, lab)
			if err := tr.Close(); err != nil {
				t.Error(err)
			}
			if tt.name == "renamed" {
				testenv.Run(t, "sh", "-ec", "ip link set up0 name eth0; ip link set eth0 up")
				wait(t, "eth0 is up", func() bool {
					return strings.Contains(testenv.Run(t, "ip", "link", "show", "eth0"), "state UP")
				})
			}
			if diff := cmp.Diff(before, eth0(t)); diff != "" {
				t.Errorf("eth0 is not as it was (-before +after):\n%s", diff)
			}
		})
	}
}

// TestClsactForeignComesLater keeps our qdisc for somebody else's filter.
func TestClsactForeignComesLater(t *testing.T) {
	uplink(t)
	lab := up(t, preset(t, "nat-uplink"))
	attachCount(t, lab, Hooks{TC: Clsact})
	testenv.Run(t, "tc", "filter", "add", "dev", "eth0", "ingress", "protocol", "ip", "u32", "match", "u32", "0", "0")
	detachAll(t, lab)
	if got := eth0(t); !strings.Contains(got, "clsact") || !strings.Contains(got, "u32") || strings.Contains(got, "nsbpf") {
		t.Errorf("eth0 has not just the other's filter:\n%s", got)
	}
}

// TestClsactIngressQdisc does not attach where filters for egress would run on
// ingress.
func TestClsactIngressQdisc(t *testing.T) {
	uplink(t)
	testenv.Run(t, "tc", "qdisc", "add", "dev", "eth0", "ingress")
	before := eth0(t)
	lab := up(t, preset(t, "nat-uplink"))
	_, err := Open(lab).AttachCount(ctx, Hooks{TC: Clsact})
	if err == nil || !strings.Contains(err.Error(), "add clsact qdisc to host:eth0: a qdisc of kind ingress has its place") {
		t.Errorf("error %v", err)
	}
	if diff := cmp.Diff(before, eth0(t)); diff != "" {
		t.Errorf("eth0 is not as it was (-before +after):\n%s", diff)
	}
}

// TestClsactTwoLabs shares the host's device between two labs. The second, which
// did not make the qdisc, removes it when it is the last.
func TestClsactTwoLabs(t *testing.T) {
	for _, first := range []string{"nat", "b"} {
		t.Run(first+" goes first", func(t *testing.T) {
			uplink(t)
			before := eth0(t)
			labs := map[string]*topology.Lab{"nat": up(t, preset(t, "nat-uplink"))}
			topo, err := preset(t, "pair").Named("b")
			if err != nil {
				t.Fatal(err)
			}
			topo.Nodes = append(topo.Nodes, topology.Node{Name: topology.HostNode, Uplinks: []string{"eth0"}})
			labs["b"] = up(t, topo)
			for _, name := range []string{"nat", "b"} {
				attachCount(t, labs[name], Hooks{TC: Clsact})
			}
			at := findHop(t, labs["b"], "host:eth0 out", 0)
			if diff := cmp.Diff([]string{"clsact count_tc", "clsact count_tc"}, stack(t, labs["b"], at)); diff != "" {
				t.Errorf("both (-want +got):\n%s", diff)
			}
			down(t, labs[first])
			delete(labs, first)
			for name := range labs {
				if got := eth0(t); strings.Count(got, "nsbpf/"+name+"/count") != 2 || strings.Count(got, "nsbpf/") != 2 {
					t.Errorf("eth0 has not just the filters of %s:\n%s", name, got)
				}
				down(t, labs[name])
			}
			if now := eth0(t); now != before {
				t.Errorf("eth0 is not as it was:\n%s", now)
			}
		})
	}
}

// TestCleanElsewhere refuses to clean in a namespace where the host's devices are
// not, and forgets nothing.
func TestCleanElsewhere(t *testing.T) {
	uplink(t)
	lab := up(t, preset(t, "nat-uplink"))
	before := eth0(t)
	attachCount(t, lab, Hooks{TC: Clsact})
	var err error
	inside(t, lab, "left", func() error {
		err = Clean(lab.Dir)
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "the lab's host is another network namespace") {
		t.Errorf("error %v", err)
	}
	detachAll(t, lab)
	if now := eth0(t); now != before {
		t.Errorf("eth0 is not as it was:\n%s", now)
	}
}

// TestCleanRecords cleans by records that are torn, and of what is gone.
func TestCleanRecords(t *testing.T) {
	lab := up(t, preset(t, "pair"))
	attachCount(t, lab, Hooks{TC: Clsact})
	f, err := os.OpenFile(filepath.Join(lab.Dir, touchedFile), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	const gone = `{"netns":"gone","netns_id":1,"ifindex":2,"qdisc":true}
{"netns":"left","netns_id":2,"ifindex":2,"qdisc":true}
{"netns":"","netns_id":3,"ifindex":1,"qdisc":true}
{"netns":"right","net`
	if _, err := f.WriteString(gone); err != nil {
		t.Fatal(err)
	}
	f.Close()
	in(t, lab, "right", "ip", "link", "del", "right-veth")
	detachAll(t, lab)
	if _, err := os.Stat(filepath.Join(lab.Dir, touchedFile)); err == nil {
		t.Error("the record is still there")
	}
	detachAll(t, lab)
	if err := Clean("/run/nsbpf/none"); err != nil {
		t.Errorf("of no lab: %v", err)
	}
}
