package trace

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/hop"
)

// lab is a network of the tests, named by its hops.
type lab struct {
	Config
	ids map[string]uint16
}

// newLab makes the hops, both directions of each device, and the edges that
// "a > b" lines say; a "=>" is a wire.
func newLab(devices map[string]hop.Kind, order []string, edges []string, owners map[string][]string) *lab {
	l := &lab{ids: map[string]uint16{}}
	l.Owners = map[string][]netip.Addr{}
	for _, place := range order {
		var node, device string
		for i := range place {
			if place[i] == ':' {
				node, device = place[:i], place[i+1:]
			}
		}
		for _, d := range []hop.Direction{hop.Ingress, hop.Egress} {
			h := hop.Hop{ID: hop.ID(len(l.Hops)), Node: node, Device: device, Direction: d, Kind: devices[place]}
			l.ids[h.String()] = uint16(h.ID)
			l.Hops = append(l.Hops, h)
		}
	}
	for _, e := range edges {
		var a, ad, arrow, b, bd string
		if _, err := fmt.Sscan(e, &a, &ad, &arrow, &b, &bd); err != nil {
			panic(err)
		}
		l.Edges = append(l.Edges, hop.Edge{From: hop.ID(l.id(a + " " + ad)), To: hop.ID(l.id(b + " " + bd)), Wire: arrow == "=>"})
	}
	for node, addrs := range owners {
		for _, a := range addrs {
			l.Owners[node] = append(l.Owners[node], netip.MustParseAddr(a))
		}
	}
	return l
}

func (l *lab) id(h string) uint16 {
	id, ok := l.ids[h]
	if !ok {
		panic("no hop " + h)
	}
	return id
}

func (l *lab) name(id uint16) string { return l.Hops[id].String() }

func pairLab() *lab {
	return newLab(map[string]hop.Kind{}, []string{"left:left-veth", "right:right-veth"},
		[]string{"left:left-veth out => right:right-veth in", "right:right-veth out => left:left-veth in"},
		map[string][]string{"left": {"172.16.16.10", "fd16::10"}, "right": {"172.16.16.20", "fd16::20"}})
}

// xdpLab is pairLab with an XDP hop at right.
func xdpLab() *lab {
	l := pairLab()
	x := hop.Hop{ID: hop.ID(len(l.Hops)), Node: "right", Device: "right-veth", Layer: hop.XDP}
	l.Hops = append(l.Hops, x)
	l.ids[x.String()] = uint16(x.ID)
	l.Edges = append(l.Edges, hop.Edge{From: hop.ID(l.id("left:left-veth out")), To: x.ID}, hop.Edge{From: x.ID, To: hop.ID(l.id("right:right-veth in"))})
	return l
}

// natLab is the preset nat with --wan.
func natLab() *lab {
	return newLab(
		map[string]hop.Kind{"host:left-br0-veth": hop.Port, "host:right-br0-veth": hop.Port, "host:br0": hop.Bridge},
		[]string{"left:left-veth", "right:right-veth", "host:left-br0-veth", "host:right-br0-veth", "host:br0", "host:eth0", "wan:eth0"},
		[]string{
			"left:left-veth out => host:left-br0-veth in", "host:left-br0-veth out => left:left-veth in",
			"right:right-veth out => host:right-br0-veth in", "host:right-br0-veth out => right:right-veth in",
			"host:left-br0-veth in > host:right-br0-veth out", "host:right-br0-veth in > host:left-br0-veth out",
			"host:left-br0-veth in > host:br0 in", "host:right-br0-veth in > host:br0 in",
			"host:br0 out > host:left-br0-veth out", "host:br0 out > host:right-br0-veth out",
			"host:br0 in > host:eth0 out", "host:eth0 in > host:br0 out",
			"host:br0 in > host:br0 out", "host:eth0 in > host:eth0 out",
			"host:eth0 out => wan:eth0 in", "wan:eth0 out => host:eth0 in",
		},
		map[string][]string{
			"left": {"172.16.16.10", "fd16::10"}, "right": {"172.16.16.20", "fd16::20"},
			"host": {"172.16.16.1", "fd16::1", "192.0.2.2", "2001:db8::2"},
			"wan":  {"192.0.2.1", "8.8.8.8", "2001:db8::1", "2001:4860:4860::8888"},
		})
}

// uplinkLab is the preset nat on a host whose eth0 leads outside.
func uplinkLab() *lab {
	l := natLab()
	for i := range l.Hops {
		if l.Hops[i].Place() == "host:eth0" {
			l.Hops[i].Kind = hop.Uplink
		}
	}
	return l
}

func mustJoiner(t testing.TB, c Config, emit func(*Path)) *Joiner {
	t.Helper()
	j, err := NewJoiner(c, emit)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// give gives j sightings, as runs of one hop, that may be out of order by less
// than a millisecond.
func give(j *Joiner, in []collector.Sighting) {
	var newest uint64
	for i := range in {
		newest = max(newest, in[i].TimeNS)
	}
	j.Add(Input{Runs: runsOf(in), Until: newest})
}

func runsOf(in []collector.Sighting) []collector.Run {
	runs := make([]collector.Run, len(in))
	for i := range in {
		runs[i].Sighting = in[i]
	}
	return runs
}

// advance says that all sightings up to now were given.
func advance(j *Joiner, now uint64) { j.Add(Input{Until: now + copyWindow}) }
