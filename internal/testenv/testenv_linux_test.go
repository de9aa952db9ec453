package testenv

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

// TestMainPlays checks that the host is the test's own.
func TestMainPlays(t *testing.T) {
	Root(t)
	if links := Run(t, "ip", "-o", "link"); strings.Count(links, "\n") != 1 || !strings.Contains(links, "LOOPBACK,UP") {
		t.Errorf("links:\n%s", links)
	}
	if entries, err := os.ReadDir("/run"); err != nil || len(entries) != 0 {
		t.Errorf("/run has %v, error %v", entries, err)
	}
	if entries, err := os.ReadDir("/sys/class/net"); err != nil || len(entries) > 2 {
		t.Errorf("/sys/class/net has %v, error %v", entries, err)
	}
}

// TestSnapshotSees makes one change of each kind, and checks that a snapshot
// tells, and that undone it is the same again.
func TestSnapshotSees(t *testing.T) {
	for _, tt := range []struct{ name, do, undo string }{
		{"nothing", "", ""},
		{"link", "ip link add x0 type veth peer name x1", "ip link del x0"},
		{"alias", "ip link set lo alias a", "ip link set lo alias ''"},
		{"address", "ip addr add 10.0.0.1/32 dev lo", "ip addr del 10.0.0.1/32 dev lo"},
		{"route", "ip route add blackhole 10.0.0.0/8", "ip route del blackhole 10.0.0.0/8"},
		{"route of another table", "ip -6 route add blackhole fd99::/64 table 7", "ip -6 route del blackhole fd99::/64 table 7"},
		{"rule", "ip rule add from 10.0.0.1 table 7", "ip rule del from 10.0.0.1 table 7"},
		{"nft", "nft add table ip x", "nft delete table ip x"},
		{"sysctl", "sysctl -qw net.ipv4.conf.lo.forwarding=1", "sysctl -qw net.ipv4.conf.lo.forwarding=0"},
		{"namespace", "ip netns add x", "ip netns del x; umount /run/netns; rmdir /run/netns"},
		{"mount", "mkdir /run/x; mount -t tmpfs x /run/x", "umount /run/x; rmdir /run/x"},
		{"file", "echo a > /run/x", "rm /run/x"},
		{"bpf", "ip link add x0 type veth peer name x1; tc qdisc add dev x0 clsact; tc filter add dev x0 ingress bpf bytecode '1,6 0 0 0'", "ip link del x0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := Snapshot(t)
			Run(t, "sh", "-ec", tt.do)
			during := Snapshot(t)
			Run(t, "sh", "-ec", tt.undo)
			if (during == before) != (tt.do == "") {
				t.Errorf("a snapshot does not tell")
			}
			if diff := cmp.Diff(before, Snapshot(t)); diff != "" {
				t.Errorf("a snapshot differs though all is undone (-before +after):\n%s", diff)
			}
		})
	}
}

func TestUplink(t *testing.T) {
	Root(t)
	before := Snapshot(t)
	t.Run("up", func(t *testing.T) {
		Uplink(t)
		for _, to := range []string{"8.8.8.8", "2001:4860:4860::8888"} {
			Run(t, "ping", "-nq", "-c", "1", "-W", "2", to)
		}
	})
	if Snapshot(t) != before {
		t.Error("the host is not as it was")
	}
}
