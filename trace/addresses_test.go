package trace

import (
	"math/rand/v2"
	"testing"
)

// A map is what addresses does.
func TestAddressesAsMap(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	a, want := newAddresses(), map[uint64]*open{}
	paths := []*open{{}, {}, {}}
	for range 100_000 {
		at := 0xffff_8880_0000_0000 + r.Uint64N(500)*256
		o := paths[r.IntN(len(paths))]
		switch {
		case r.IntN(2) == 0:
			a.set(at, o)
			want[at] = o
		case want[at] == o:
			delete(want, at)
			fallthrough
		default:
			a.remove(at, o)
		}
		probe := 0xffff_8880_0000_0000 + r.Uint64N(500)*256
		if a.find(probe) != want[probe] || a.used != len(want) {
			t.Fatalf("address %x: %p, want %p; %d in use, want %d", probe, a.find(probe), want[probe], a.used, len(want))
		}
	}
	for at, o := range want {
		a.remove(at, o)
	}
	for _, s := range a.slots {
		if s != (address{}) || a.used != 0 {
			t.Fatalf("left: %v, %d in use", s, a.used)
		}
	}
}
