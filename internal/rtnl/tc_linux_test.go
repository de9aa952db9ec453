package rtnl

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/internal/testenv"
)

const (
	clsactParent = 0xfffffff1
	clsactEgress = 0xfffffff3
)

// TestFilters lists filters of several kinds that tc made.
func TestFilters(t *testing.T) {
	c := dial(t)
	testenv.Run(t, "sh", "-ec", `ip link add x0 type veth peer name x1
tc qdisc add dev x0 clsact
tc filter add dev x0 egress prio 7 bpf bytecode '1,6 0 0 0'
tc filter add dev x0 egress prio 8 protocol ip u32 match u32 0 0 classid 1:1`)
	t.Cleanup(func() { testenv.Run(t, "ip", "link", "del", "x0") })
	index, err := c.Index("x0")
	if err != nil {
		t.Fatal(err)
	}
	qs, err := c.Qdiscs()
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[uint32]string{}
	for _, q := range qs {
		if q.Index == index {
			kinds[q.Parent] = q.Kind
		}
	}
	if kinds[clsactParent] != "clsact" {
		t.Errorf("qdiscs of x0 by parent: %v", kinds)
	}

	fs, err := c.Filters(index, clsactEgress)
	if err != nil {
		t.Fatal(err)
	}
	want := []Filter{
		{Parent: clsactEgress, Handle: 1, Prio: 7, Kind: "bpf"},
		{Parent: clsactEgress, Handle: 0x80000000, Prio: 8, Kind: "u32"},
		{Parent: clsactEgress, Handle: 0x80000800, Prio: 8, Kind: "u32"},
	}
	if diff := cmp.Diff(want, fs); diff != "" {
		t.Errorf("filters (-want +got):\n%s", diff)
	}
	for _, gone := range []int{index + 1000, 1} {
		if fs, err := c.Filters(gone, clsactEgress); err != nil || len(fs) > 0 {
			t.Errorf("device %d: filters %v, error %v", gone, fs, err)
		}
	}
}
