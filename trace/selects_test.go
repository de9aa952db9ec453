package trace

import (
	"testing"
	"time"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/trace/filter"
)

// TestSelect has each word of a Path against Paths that differ in one thing.
func TestSelect(t *testing.T) {
	hops := []hop.Hop{{ID: 3, Node: "left", Device: "eth0", Direction: hop.Egress}, {ID: 9, Node: "host", Device: "br0"}}
	step := func(id uint16, ns uint64, c Change) Step {
		s := Step{Sighting: collector.Sighting{Sighting: bpf.Sighting{Hop: id, TimeNS: ns}}, Change: c}
		s.Packet.EtherType = 0x0800
		s.Packet.Dst[15] = byte(id)
		return s
	}
	path := func(change func(*Path)) *Path {
		p := &Path{Steps: []Step{step(3, 1000, 0), step(9, 3000, TTL)}, Verdict: Delivered, End: 1, Attempt: 1}
		if change != nil {
			change(p)
		}
		return p
	}
	delivered := path(nil)
	lost := path(func(p *Path) { p.Verdict = LastSeen })
	givenUp := path(func(p *Path) { p.Verdict, p.GivenUp = LastSeen, true })
	partly := path(func(p *Path) { p.Verdict = PartlyDelivered })
	merged := path(func(p *Path) { p.Verdict = Merged })
	left := path(func(p *Path) { p.Verdict = LeftLab })
	natted := path(func(p *Path) { p.Steps[1].Change |= SNAT })
	again := path(func(p *Path) { p.Attempt = 2 })
	short := path(func(p *Path) { p.Steps = p.Steps[:1]; p.End = 0 })
	for _, tt := range []struct {
		expr string
		yes  []*Path
		no   []*Path
	}{
		{"dropped", []*Path{lost, partly}, []*Path{delivered, left, givenUp, merged}},
		{"not dropped", []*Path{delivered, left}, []*Path{lost, partly, givenUp, merged}},
		{"natted", []*Path{natted}, []*Path{delivered}},
		{"retransmitted", []*Path{again}, []*Path{delivered}},
		{"node host", []*Path{delivered}, []*Path{short}},
		{"hop left:eth0 out", []*Path{delivered, short}, nil},
		{"latency >= 2us", []*Path{delivered}, []*Path{short}},
		{"latency < 2µs or ip6", []*Path{short}, []*Path{delivered}},
	} {
		x, err := filter.Parse(tt.expr)
		if err != nil {
			t.Fatal(err)
		}
		wants, err := Select(x, hops)
		if err != nil {
			t.Fatal(err)
		}
		for i, p := range append(tt.yes, tt.no...) {
			if got, want := wants(p), i < len(tt.yes); got != want {
				t.Errorf("%q: %v, want %v of path %d: %+v", tt.expr, got, want, i, p)
			}
		}
		if n := testing.AllocsPerRun(100, func() { wants(delivered) }); n != 0 {
			t.Errorf("%q: %v allocations", tt.expr, n)
		}
	}
	if delivered.Duration() != 2*time.Microsecond {
		t.Errorf("the path took %v", delivered.Duration())
	}
}

// TestSelectNothing has the expressions that select no Paths, or cannot.
func TestSelectNothing(t *testing.T) {
	x, err := filter.Parse("tcp port 80")
	if err != nil {
		t.Fatal(err)
	}
	if wants, err := Select(x, nil); wants != nil || err != nil {
		t.Errorf("got %v, %v of an expression without own words", wants != nil, err)
	}
	if x, err = filter.Parse("node left"); err != nil {
		t.Fatal(err)
	}
	if wants, err := Select(x, []hop.Hop{{Node: "right"}}); wants != nil || err == nil {
		t.Errorf("got %v, %v of a node that is not there", wants != nil, err)
	}
}
