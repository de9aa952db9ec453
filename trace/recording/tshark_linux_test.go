package recording

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/internal/testenv"
	"github.com/nsbpf/nsbpf/trace"
)

// shownFile returns a capture file of testPaths, behind them a packet of each of
// headerCases, in the order of their names, from packet id 10 on; and how many
// packets there are.
func shownFile(t *testing.T) (path string, n int) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "x.pcapng")
	start := testStart()
	start.SnapLen, start.Expr = 0, ""
	f, err := Create(path, start, Options{})
	if err != nil {
		t.Fatal(err)
	}
	record(t, f, testEvents()[:3]...)
	record(t, f, Event{Input: &trace.Input{Runs: make([]collector.Run, 6000), Until: 1}}) // more than one block
	show := func(p *trace.Path) {
		record(t, f, Event{Path: &Path{JSON: []byte("{}"), Joined: p, Comment: "because"}})
		for i := range p.Steps {
			if p.Steps[i].HopID() != hop.None {
				n++
			}
		}
	}
	for _, p := range testPaths() {
		show(p)
	}
	cases := headerCases()
	for i, name := range slices.Sorted(maps.Keys(cases)) {
		show(&trace.Path{Number: uint64(10 + i), Steps: []trace.Step{step(0, uint64(1000+i), cases[name])}})
	}
	record(t, f, Event{End: &End{}})
	closeFile(t, f)
	return path, n
}

// tshark finds one packet at all its hops, reads all headers, and capinfos names
// the hops. Neither complains, nor does tcpdump.
func TestTshark(t *testing.T) {
	path, n := shownFile(t)
	tshark := func(args ...string) string {
		return testenv.Run(t, "tshark", append([]string{"-n", "-r", path, "-o", "ip.check_checksum:TRUE"}, args...)...)
	}
	got := tshark("-Y", "frame.packet_id==1", "-T", "fields", "-e", "frame.interface_name", "-e", "frame.time_epoch", "-e", "ip.src", "-e", "icmp.seq")
	want := "left:left-veth out\t1789999000.000000101\t172.16.16.10\t1\n" +
		"host:left-br0-veth xdp\t1789999000.000000301\t172.16.16.10\t1\n" +
		"host:left-br0-veth in\t1789999000.000000501\t172.16.16.10\t1\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("packet 1 (-want +tshark):\n%s", diff)
	}
	got = tshark("-Y", "frame.verdict.ebpf_tc==2", "-T", "fields", "-e", "frame.packet_id", "-e", "frame.interface_name", "-e", "frame.comment")
	if want := "2\thost:left-br0-veth in\tbecause\n"; got != want {
		t.Errorf("tshark finds dropped %q, want %q", got, want)
	}
	got = tshark("-Y", "frame.packet_id>=10", "-T", "fields", "-e", "frame.protocols")
	want = `eth:ethertype:arp
eth:ethertype:ipv6:ipv6.hopopts
eth:ethertype:ip
eth:ethertype:ipv6:ipv6.fraghdr
eth:ethertype:ip:icmp
eth:ethertype:ipv6:icmpv6
eth:ethertype:ip:tcp
eth:ethertype:lldp
eth:ethertype:ip:tcp
eth:ethertype:vlan:ethertype:ip:udp
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("protocols (-want +tshark):\n%s", diff)
	}
	if bad := tshark("-Y", `ip.checksum.status=="Bad" || _ws.malformed`); bad != "" {
		t.Errorf("tshark complains about\n%s", bad)
	}
	if got := strings.Count(tshark(), "\n"); got != n {
		t.Errorf("tshark reads %d packets", got)
	}
	if got := strings.Count(testenv.Run(t, "tcpdump", "-n", "-r", path), "\n"); got != n {
		t.Errorf("tcpdump reads %d packets", got)
	}
	about := testenv.Run(t, "capinfos", path)
	for _, what := range []string{
		"Name = left:left-veth out\n", "Name = host:left-br0-veth in\n", "Name = host:left-br0-veth xdp\n",
		"Strict time order:   True\n", fmt.Sprintf("Number of packets:   %d\n", n),
	} {
		if !strings.Contains(about, what) {
			t.Errorf("capinfos does not say %q:\n%s", what, about)
		}
	}
}
