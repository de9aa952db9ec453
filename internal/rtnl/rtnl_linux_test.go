package rtnl

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/nsbpf/nsbpf/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

func TestRetry(t *testing.T) {
	for _, tt := range []struct {
		name        string
		interrupted int
		calls       int
		err         error
	}{
		{"at once", 0, 1, nil},
		{"third time", 2, 3, nil},
		{"never", tries, tries, netlink.ErrDumpInterrupted},
	} {
		t.Run(tt.name, func(t *testing.T) {
			calls := 0
			n, err := Retry(func() (int, error) {
				if calls++; calls <= tt.interrupted {
					return 0, netlink.ErrDumpInterrupted
				}
				return 7, nil
			})
			if calls != tt.calls || !errors.Is(err, tt.err) || err == nil && n != 7 {
				t.Errorf("%d after %d calls, error %v", n, calls, err)
			}
		})
	}
}

func dial(t *testing.T) *Conn {
	t.Helper()
	testenv.Root(t)
	c, err := Dial(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// network makes a bridge with one port and the port's peer, all up.
func network(t *testing.T, c *Conn) (bridge, port, peer int) {
	t.Helper()
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	index := func(name string) int {
		i, err := c.Index(name)
		ok(err)
		return i
	}
	t.Cleanup(func() { ok(c.DeleteGroup(4711)) })
	ok(c.AddBridge(Bridge{Name: "br0", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Group: 4711}))
	ok(c.AddVeth(Veth{Name: "peer", Index: 100, Peer: "port", MTU: 1400, Group: 4711, QueuesRx: 1, QueuesTx: 2}))
	bridge, port, peer = index("br0"), index("port"), index("peer")
	ok(c.SetPort(port, bridge))
	ok(c.AddAltName(port, "a-rather-long-name-for-a-port"))
	for _, i := range []int{peer, port, bridge} {
		ok(c.SetUp(i))
	}
	return bridge, port, peer
}

func TestLinks(t *testing.T) {
	c := dial(t)
	w, err := OpenWatch(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	bridge, port, peer := network(t, c)
	want := []Link{
		{Index: 1, Name: "lo", Up: true},
		{Index: bridge, Name: "br0", Group: 4711, Up: true, Running: true},
		{Index: peer, Name: "peer", Group: 4711, Up: true, Running: true},
		{Index: port, Name: "port", Group: 4711, Up: true, Running: true, Port: true, Forwarding: true,
			AltNames: []string{"a-rather-long-name-for-a-port"}},
	}
	byName := cmpopts.SortSlices(func(a, b Link) bool { return a.Name < b.Name })
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for {
		got, err := c.Links()
		if err != nil {
			t.Fatal(err)
		}
		diff := cmp.Diff(want, got, byName)
		if diff == "" {
			break
		}
		if err := w.Wait(ctx); err != nil {
			t.Fatalf("%v (-want +got):\n%s", err, diff)
		}
	}
	testenv.Run(t, "sh", "-ec", `ip -d link show peer | grep 'mtu 1400 '
		ip -d link show peer | grep 'numtxqueues 2 numrxqueues 1 '
		ip -d link show port | grep 'addrgenmode none'
		ip link show br0 | grep 02:00:00:00:00:01`)
}

func TestAddressesAndRoutes(t *testing.T) {
	c := dial(t)
	bridge, _, _ := network(t, c)
	v4, v6 := netip.MustParsePrefix("10.1.2.3/24"), netip.MustParsePrefix("fd01::3/64")
	dst, via := netip.MustParsePrefix("10.9.0.0/16"), netip.MustParseAddr("10.1.2.9")
	for _, err := range []error{c.AddAddr(bridge, v4), c.AddAddr(bridge, v6), c.AddRoute(dst, via)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	addrs, err := c.Addrs()
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, a := range addrs {
		if a == (Addr{Index: bridge, Prefix: v4}) || a == (Addr{Index: bridge, Prefix: v6}) {
			found++
		}
	}
	if found != 2 {
		t.Errorf("addresses %v", addrs)
	}
	routes, err := c.Routes()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]int{}
	for _, r := range routes {
		got[r.Dst.String()] = r.Indexes
	}
	want := map[string][]int{"10.1.2.0/24": {bridge}, "10.9.0.0/16": {bridge}, "fd01::/64": {bridge}}
	delete(got, "fe80::/64")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
	if err := errors.Join(c.DelRoute(dst, via), c.DelAddr(bridge, v4), c.DelAddr(bridge, v6)); err != nil {
		t.Error(err)
	}
}

func TestDeleteGroup(t *testing.T) {
	c := dial(t)
	network(t, c)
	for range 2 { // the second finds none
		if err := c.DeleteGroup(4711); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Index("br0"); !errors.Is(err, unix.ENODEV) {
		t.Errorf("error %v", err)
	}
	if err := c.Delete(4242); err != nil {
		t.Errorf("delete of nothing: %v", err)
	}
}

func TestWatchEnds(t *testing.T) {
	testenv.Root(t)
	w, err := OpenWatch(nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := w.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	w.Close()
}
