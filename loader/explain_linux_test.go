package loader

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/internal/netns"
	"github.com/nsbpf/nsbpf/topology"
)

// ended detaches tr and returns what is in its ring, and its ledgers.
func ended(t *testing.T, tr *Trace) (all collector.Batch, ls collector.Ledgers) {
	t.Helper()
	ring, err := collector.OpenRing(tr.Ring, tr.Sweep)
	if err != nil {
		t.Fatal(err)
	}
	defer ring.Close()
	if err := tr.Detach(); err != nil {
		t.Fatal(err)
	}
	if err := ring.Drain(func(b *collector.Batch, _ uint64) error {
		all.Runs = append(all.Runs, b.Runs...)
		all.Drops = append(all.Drops, b.Drops...)
		all.Passages = append(all.Passages, b.Passages...)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if ls, err = collector.ReadLedgers(tr.Ledgers, tr.Hops); err != nil {
		t.Fatal(err)
	}
	for name, l := range map[string]collector.Ledger{"drops": ls.Drops, "passages": ls.Passages} {
		if !l.Balanced() {
			t.Errorf("ledger of %s: %+v", name, l)
		}
	}
	if ls.Drops.Traced != uint64(len(all.Drops)) || ls.Passages.Traced != uint64(len(all.Passages)) {
		t.Errorf("%d drops and %d passages of %+v and %+v", len(all.Drops), len(all.Passages), ls.Drops, ls.Passages)
	}
	return all, ls
}

// drop is what is compared of a bpf.Drop.
type drop struct {
	Node, Device, Reason string
	Matched, Followed    uint8
	Dst                  string
	Len                  uint32
}

// named gives a drop's numbers their names.
func named(t *testing.T, lab *topology.Lab, tr *Trace, d bpf.Drop) (_ drop, callers []string) {
	t.Helper()
	k := kernel(t)
	s := collector.Sighting{Sighting: d.Seen}
	out := drop{
		Node: tr.Nodes[d.Seen.Hop], Reason: k.Reason(d.Reason), Matched: d.Matched, Followed: d.Followed,
		Dst: netip.AddrPortFrom(s.Dst(), s.Packet.Dport).String(), Len: s.Packet.Len,
	}
	inside(t, lab, out.Node, func() error {
		if dev, err := netlink.LinkByIndex(int(d.IfIndex)); err == nil {
			out.Device = dev.Attrs().Name
		}
		return nil
	})
	for _, at := range append([]uint64{d.Location}, d.Callers[:]...) {
		callers = append(callers, k.Symbol(at))
	}
	return out, callers
}

func kernel(t *testing.T) *collector.Kernel {
	t.Helper()
	k, err := collector.OpenKernel()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// sendTo sends n datagrams of five bytes from a node.
func sendTo(tb testing.TB, lab *topology.Lab, node, to string, n int) {
	tb.Helper()
	inside(tb, lab, node, func() error {
		c, err := net.ListenPacket("udp", ":0")
		if err != nil {
			return err
		}
		defer c.Close()
		for range n {
			// What is dropped on its way out is refused.
			_, _ = c.WriteTo([]byte("hello"), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to)))
		}
		return nil
	})
}

// withIPv6 gives left and right of a pair addresses of IPv6, fd00::1 and fd00::2.
func withIPv6(t *testing.T, lab *topology.Lab) {
	t.Helper()
	for i, node := range []string{"left", "right"} {
		in(t, lab, node, "sh", "-ec", fmt.Sprintf("sysctl -qw net.ipv6.conf.all.disable_ipv6=0 && ip addr add fd00::%d/64 dev %s-veth nodad", i+1, node))
	}
	in(t, lab, "left", "ping", "-nq", "-c", "1", "-W", "2", "fd00::2")
}

// TestDrops has the kernel drop one datagram, each time for another reason.
func TestDrops(t *testing.T) {
	for _, tt := range []struct {
		name, lab    string
		node, before string // what is done before, and where
		to           string
		want         drop
		callers      []string // of which one has to be there
	}{
		{
			"rule in forward", "nat-wan", "host", forwardRule, "8.8.8.8:9",
			drop{"host", "br0", "NETFILTER_DROP", 1, 1, "8.8.8.8:9", 47}, []string{"ip_forward"},
		},
		{
			"rule in output", "pair", "left", outputRule, "172.16.16.20:9",
			drop{"left", "", "NETFILTER_DROP", 1, 0, "172.16.16.20:9", 47}, []string{"ip_send_skb", "__ip_local_out", "ip_push_pending_frames"},
		},
		{
			"rule in output of IPv6", "pair", "left", outputRule, "[fd00::2]:9",
			drop{"left", "", "NETFILTER_DROP", 1, 0, "[fd00::2]:9", 67}, []string{"ip6_send_skb", "__ip6_local_out", "ip6_local_out"},
		},
		{
			"no socket", "pair", "right", "true", "172.16.16.20:9",
			drop{"right", "right-veth", "NO_SOCKET", 1, 1, "172.16.16.20:9", 47}, []string{"ip_protocol_deliver_rcu"},
		},
		{
			"no socket of IPv6", "pair", "right", "true", "[fd00::2]:9",
			drop{"right", "right-veth", "NO_SOCKET", 1, 1, "[fd00::2]:9", 67}, []string{"ip6_protocol_deliver_rcu"},
		},
		{
			"no neighbour", "pair", "left", "sysctl -qw net.ipv4.neigh.left-veth.retrans_time_ms=10", "172.16.16.21:9",
			drop{"left", "left-veth", "NEIGH_FAILED", 1, 0, "172.16.16.21:9", 47}, nil,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lab := up(t, preset(t, tt.lab))
			if strings.Contains(tt.to, "fd00") {
				withIPv6(t, lab)
			}
			in(t, lab, tt.node, "sh", "-ec", tt.before)
			tr := startTrace(t, lab, TraceOptions{Match: compile(t, "udp dst port 9")})
			if !tr.SeesDrops() || tr.SeesPassages() || tr.Unarmed != nil || tr.Traced != nil {
				t.Fatalf("armed: drops %v, passages %v; not: %q", tr.SeesDrops(), tr.SeesPassages(), tr.Unarmed)
			}
			sendTo(t, lab, "left", tt.to, 1)
			var all collector.Batch
			var ls collector.Ledgers
			// A packet that waits for its neighbour is dropped later.
			wait(t, "a drop is seen", func() bool {
				l, err := collector.ReadLedgers(tr.Ledgers, tr.Hops)
				return err != nil || l.Drops.Traced > 0
			})
			all, ls = ended(t, tr)
			if len(all.Drops) != 1 {
				t.Fatalf("%d drops, ledger %+v", len(all.Drops), ls.Drops)
			}
			d := all.Drops[0]
			got, callers := named(t, lab, tr, d)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("drop in %v (-want +got):\n%s", callers, diff)
			}
			if tt.callers != nil && !slices.ContainsFunc(tt.callers, func(c string) bool { return slices.Contains(callers, c) }) {
				t.Errorf("dropped in %v, want one of %v", callers, tt.callers)
			}
			checkSeen(t, d, all.Runs)
		})
	}
}

// Rules that drop UDP to port 9.
const (
	forwardRule = "nft add table ip fw; nft 'add chain ip fw through { type filter hook forward priority 0; }'; nft add rule ip fw through udp dport 9 drop"
	outputRule  = "nft add table inet fw; nft 'add chain inet fw out { type filter hook output priority 0; }'; nft add rule inet fw out udp dport 9 drop"
)

// checkSeen compares a followed packet with its sightings: but for what forwarding
// changes, it is read as at a hop.
func checkSeen(t *testing.T, d bpf.Drop, runs []collector.Run) {
	t.Helper()
	if d.Followed == 0 {
		if len(runs) > 0 {
			t.Errorf("seen at hops: %+v", runs)
		}
		return
	}
	if len(runs) == 0 {
		t.Fatal("not seen at any hop")
	}
	want := runs[len(runs)-1].Sighting.Sighting
	got := d.Seen
	if got.TimeNS <= want.TimeNS || got.Skb != want.Skb || got.Head == 0 {
		t.Errorf("dropped at %d as %#x in %#x, seen at %d as %#x", got.TimeNS, got.Skb, got.Head, want.TimeNS, want.Skb)
	}
	got.TimeNS, got.Hop, got.Steps, got.Tracked = want.TimeNS, want.Hop, want.Steps, want.Tracked
	if got.Packet.TTL == want.Packet.TTL-1 {
		got.Packet.TTL++
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("dropped packet (-seen +dropped):\n%s", diff)
	}
}

// TestDropsElsewhere has packets dropped that are none of the trace's: in another
// namespace, and in the lab's that the expression does not match.
func TestDropsElsewhere(t *testing.T) {
	lab := up(t, preset(t, "pair"))
	tr := startTrace(t, lab, TraceOptions{Match: compile(t, "udp dst port 10")})
	const name = "nsbpf-elsewhere"
	ns, err := netns.Create(name, "", func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(lo); err != nil {
			return err
		}
		c, err := net.Dial("udp4", "127.0.0.1:10")
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte("hello"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	defer func() {
		if err := netns.Remove(name); err != nil {
			t.Error(err)
		}
	}()
	sendTo(t, lab, "left", "172.16.16.20:9", 3)
	all, ls := ended(t, tr)
	if len(all.Drops) > 0 || ls.Drops.Filtered < 3 || ls.Drops.Seen != ls.Drops.Filtered {
		t.Errorf("drops %+v, ledger %+v", all.Drops, ls.Drops)
	}
}

// TestDropsLost drops more than a small ring holds while nobody reads.
func TestDropsLost(t *testing.T) {
	lab := up(t, preset(t, "pair"))
	in(t, lab, "left", "sh", "-ec", outputRule)
	tr := startTrace(t, lab, TraceOptions{Match: compile(t, "udp dst port 9"), Ring: 4096})
	const sent = 300
	sendTo(t, lab, "left", "172.16.16.20:9", sent)
	all, ls := ended(t, tr)
	if n := ls.Drops.Traced + ls.Drops.Lost; n != sent || ls.Drops.Lost == 0 || len(all.Drops) == 0 {
		t.Errorf("%d drops read, ledger %+v, want %d", len(all.Drops), ls.Drops, sent)
	}
}

// TestDropsSampled tells only of dropped packets that were chosen at a hop.
func TestDropsSampled(t *testing.T) {
	for name, opts := range map[string]TraceOptions{"sample": {Sample: 3}, "rate": {Rate: 20}} {
		t.Run(name, func(t *testing.T) {
			lab := up(t, preset(t, "pair"))
			opts.Match = compile(t, "udp dst port 9")
			tr := startTrace(t, lab, opts)
			const sent = 300
			sendTo(t, lab, "left", "172.16.16.20:9", sent)
			all, ls := ended(t, tr)
			at := ledger(t, tr, findHop(t, lab, "left:left-veth out", hop.TC))
			if d := ls.Drops; d.Traced != at.Traced || d.Traced+d.SampledOut != sent || d.Traced == 0 || d.SampledOut == 0 {
				t.Errorf("drops %+v, of packets that left %+v", d, at)
			}
			for _, d := range all.Drops {
				if d.Followed == 0 {
					t.Errorf("not chosen at a hop: %+v", d)
				}
			}
		})
	}
}
