package diff

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/trace"
)

// describe says what a Finding is in a line, without its figures.
func describe(f Finding) string {
	s := f.Change.String()
	if f.Doubt != Certain {
		s += " " + f.Doubt.String() + "?"
	}
	if f.Edge != (Edge{}) {
		s += " " + f.Edge.From + " > " + f.Edge.To
	}
	for _, o := range []Outcome{f.Was, f.Is} {
		if o != (Outcome{}) {
			s += " [" + strings.Join(strings.Fields(strings.Join(o.fields(), " ")), " ") + "]"
		}
	}
	if f.Time != nil {
		s += fmt.Sprintf(" whole %t", f.Time.Whole)
	}
	for _, fl := range f.Flows {
		s += fmt.Sprintf(" %d/%s", fl.Kind.Proto, fl.Peer)
	}
	if f.NotInLab {
		s += " not in lab"
	}
	return s
}

func describeAll(all []Finding) (out []string) {
	for _, f := range all {
		out = append(out, describe(f))
	}
	return out
}

// situations are what changes in the network, and what is to be found.
var situations = map[string]struct {
	before, after func(flows []behaviour)
	lost          uint64 // of the second
	want, doubt   []string
}{
	"nothing": {},
	"a rule drops a flow": {
		after: func(f []behaviour) { f[1].lost, f[1].drop = 1, byRule("tcp dport 80 drop") },
		want: []string{
			"drop_new [host forward NETFILTER_DROP ip fw fwd tcp dport 80 drop drop] 6/172.16.16.20:80",
			"edge_gone host:right0 out > right:eth0 in 6/172.16.16.20:80",
			"edge_gone host:left0 in > host:right0 out 6/172.16.16.20:80",
			"edge_gone host:br0 in > host:right0 out 6/172.16.16.20:80",
		},
	},
	"a rule no longer drops a flow": {
		before: func(f []behaviour) { f[1].lost, f[1].drop = .3, byRule("tcp dport 80 drop") },
		want:   []string{"drop_gone [host forward NETFILTER_DROP ip fw fwd tcp dport 80 drop drop] 6/172.16.16.20:80"},
	},
	"a drop moves": {
		before: func(f []behaviour) { f[1].lost, f[1].drop = 1, byRule("tcp dport 80 drop") },
		after: func(f []behaviour) {
			f[1].lost, f[1].drop = 1, trace.Drop{Node: "right", Reason: "TCP_CSUM"}
		},
		want: []string{"drop_moved [host forward NETFILTER_DROP ip fw fwd tcp dport 80 drop drop] [right TCP_CSUM] 6/172.16.16.20:80"},
	},
	"a rule is loaded again": {
		before: func(f []behaviour) { f[1].lost, f[1].drop = 1, byRule("tcp dport 80 drop") },
		after: func(f []behaviour) {
			f[1].lost, f[1].drop = 1, byRule("tcp dport 80 drop")
			f[1].drop.Rule.Handle = 99
		},
	},
	"a queue overflows": {
		after: func(f []behaviour) { f[0].lost = .12 },
		want:  []string{"drop_more [host QDISC_DROP] 6/8.8.8.8:443"},
	},
	"NAT changes its address": {
		after: func(f []behaviour) { f[0].snat, f[2].snat = "192.0.2.7", "192.0.2.7" },
		want: []string{"nat_changed [snat to 192.0.2.2 at host:br0 in > host:eth0 out] [snat to 192.0.2.7 at host:br0 in > host:eth0 out] " +
			"1/8.8.8.8:0 6/8.8.8.8:443"},
	},
	"NAT is gone": {
		after: func(f []behaviour) { f[0].snat = "" },
		want:  []string{"nat_gone [snat to 192.0.2.2 at host:br0 in > host:eth0 out] 6/8.8.8.8:443"},
	},
	"NAT is new": {
		before: func(f []behaviour) { f[0].snat = "" },
		want:   []string{"nat_new [snat to 192.0.2.2 at host:br0 in > host:eth0 out] 6/8.8.8.8:443"},
	},
	"a way is not taken": {
		after: func(f []behaviour) { f[1].part = 0 },
		want: []string{
			"edge_gone host:br0 in > host:right0 out 6/172.16.16.20:80",
		},
	},
	"a way is new": {
		before: func(f []behaviour) { f[1].part = 0 },
		want:   []string{"edge_new host:br0 in > host:right0 out 6/172.16.16.20:80"},
	},
	"a way is not seen, but events were lost": {
		after: func(f []behaviour) { f[1].part = 0 },
		lost:  3,
		doubt: []string{"edge_gone incomplete? host:br0 in > host:right0 out 6/172.16.16.20:80"},
	},
	"a flow is not sent": {
		after: func(f []behaviour) { f[1].unsent = true },
		doubt: []string{
			"edge_gone absent? host:right0 out > right:eth0 in 6/172.16.16.20:80",
			"edge_gone absent? host:left0 in > host:right0 out 6/172.16.16.20:80",
			"edge_gone absent? host:br0 in > host:right0 out 6/172.16.16.20:80",
		},
	},
	"a kind takes another way": {
		before: func(f []behaviour) { f[2].way, f[2].snat, f[2].lost = toRight, "", 0 },
		after:  func(f []behaviour) { f[2].way, f[2].snat, f[2].lost = past, "", 0 },
		want: []string{
			"edge_gone host:left0 in > host:right0 out 1/8.8.8.8:0",
			"slower left:eth0 out > right:eth0 in whole true",
			"edge_new host:br0 in > host:right0 out 1/8.8.8.8:0",
			"edge_new host:left0 in > host:br0 in 1/8.8.8.8:0",
		},
	},
	"an edge is slow": {
		after: func(f []behaviour) {
			f[0].slower = map[string]float64{"host:eth0 out": 1.5}
			f[2].slower = f[0].slower
		},
		want: []string{
			"slower host:eth0 out > wan:eth0 in whole false",
			"slower host:eth0 out > wan:eth0 in whole false",
			"slower left:eth0 out > wan:eth0 in whole true",
			"slower left:eth0 out > wan:eth0 in whole true",
		},
	},
	"an edge is fast": {
		after: func(f []behaviour) { f[1].slower = map[string]float64{"left:eth0 out": .5} },
		want: []string{
			"faster left:eth0 out > host:left0 in whole false",
			"faster left:eth0 out > right:eth0 in whole true",
		},
	},
	"more is sent again": {
		after: func(f []behaviour) { f[0].again = .15 },
		want:  []string{"resent_more [again] 6/8.8.8.8:443"},
	},
}

// What is changed in the network is what is found, and nothing else.
func TestCompare(t *testing.T) {
	for name, tt := range situations {
		t.Run(name, func(t *testing.T) {
			before, after := usual(), usual()
			if tt.before != nil {
				tt.before(before)
			}
			if tt.after != nil {
				tt.after(after)
			}
			a, b := profile(lab, before, 2000, 1), profile(lab.renumbered(), after, 2000, 2)
			b.Source.Lost = tt.lost
			d := Compare(a, b, Options{})
			if diff := cmp.Diff(tt.want, describeAll(d.Findings)); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.doubt, describeAll(d.Doubtful)); diff != "" {
				t.Errorf("doubtful (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(d, Compare(a, b, Options{}), cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
				t.Errorf("compared again (-first +second):\n%s", diff)
			}
		})
	}
}

// A recording does not differ from itself.
func TestCompareSame(t *testing.T) {
	a := profile(lab, usual(), 500, 1)
	if d := Compare(a, a, Options{}); len(d.Findings)+len(d.Doubtful) > 0 {
		t.Errorf("found %q, doubtful %q", describeAll(d.Findings), describeAll(d.Doubtful))
	}
}

// What few packets say may be chance.
func TestCompareFew(t *testing.T) {
	before, after := usual(), usual()
	after[1].part = 0
	d := Compare(profile(lab, before, 60, 1), profile(lab, after, 60, 2), Options{})
	if len(d.Findings) > 0 || !slices.Contains(describeAll(d.Doubtful), "edge_gone chance? host:br0 in > host:right0 out 6/172.16.16.20:80") {
		t.Errorf("found %q, doubtful %q", describeAll(d.Findings), describeAll(d.Doubtful))
	}
	if d.Thin == 0 {
		t.Error("none of the times are too few")
	}
}

// A lab without an edge is told from one whose edge nobody uses.
func TestCompareOtherLab(t *testing.T) {
	before, after := usual(), usual()
	after[1].part = 0
	other := lab
	other.edges = slices.DeleteFunc(slices.Clone(lab.edges), func(e hop.Edge) bool { return e.From == lab.id("host:br0 in") && e.To == lab.id("host:right0 out") })
	d := Compare(profile(lab, before, 2000, 1), profile(other, after, 2000, 2), Options{})
	if diff := cmp.Diff([]string{"edge_gone host:br0 in > host:right0 out 6/172.16.16.20:80 not in lab"}, describeAll(d.Findings)); diff != "" {
		t.Error(diff)
	}
}
