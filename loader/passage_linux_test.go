package loader

import (
	order "cmp"
	"fmt"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/collector"
)

// explained starts a trace that explains, where the kernel can.
func explained(t *testing.T, tr *Trace) {
	t.Helper()
	if features.HaveProgramType(ebpf.Netfilter) != nil {
		if tr.SeesPassages() || len(tr.Unarmed) != 1 {
			t.Errorf("passages seen: %v, not armed: %q", tr.SeesPassages(), tr.Unarmed)
		}
		t.Skip("needs netfilter programs (Linux 6.4)")
	}
	if !tr.SeesDrops() || !tr.SeesPassages() || tr.Unarmed != nil || tr.Traced == nil {
		t.Fatalf("armed: drops %v, passages %v, %v; not: %q", tr.SeesDrops(), tr.SeesPassages(), tr.Traced, tr.Unarmed)
	}
}

// passedHooks returns where packets came to, in their order.
func passedHooks(tr *Trace, all collector.Batch) []string {
	slices.SortFunc(all.Passages, func(a, b bpf.Passage) int { return order.Compare(a.TimeNS, b.TimeNS) })
	var out []string
	for _, p := range all.Passages {
		end := "first"
		if p.Last != 0 {
			end = "last"
		}
		out = append(out, fmt.Sprintf("%s %s %s %s", tr.Nodes[p.Node], p.FamilyName(), p.HookName(), end))
	}
	return out
}

// TestPassages has a datagram come through both nodes' hooks, and one that a rule
// drops on its way out.
func TestPassages(t *testing.T) {
	through := func(family string) []string {
		var want []string
		for _, at := range []string{"left %s output", "left %s postrouting", "right %s prerouting", "right %s input"} {
			at = fmt.Sprintf(at, family)
			want = append(want, at+" first", at+" last")
		}
		return want
	}
	for _, tt := range []struct {
		name, before, to string
		want             []string
	}{
		{"IPv4", "true", "172.16.16.20:9", through("ip")},
		{"IPv6", "true", "[fd00::2]:9", through("ip6")},
		{"dropped", outputRule, "172.16.16.20:9", []string{"left ip output first"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lab := up(t, preset(t, "pair"))
			withIPv6(t, lab)
			in(t, lab, "left", "sh", "-ec", tt.before)
			tr := startTrace(t, lab, TraceOptions{Match: compile(t, "udp dst port 9"), Explain: true})
			explained(t, tr)
			sendTo(t, lab, "left", tt.to, 1)
			wait(t, "it is dropped", func() bool {
				l, err := collector.ReadLedgers(tr.Ledgers, tr.Hops)
				return err != nil || l.Drops.Traced > 0
			})
			all, _ := ended(t, tr)
			if diff := cmp.Diff(tt.want, passedHooks(tr, all)); diff != "" {
				t.Errorf("passages (-want +got):\n%s", diff)
			}
			for _, p := range all.Passages {
				if p.Skb != all.Drops[0].Seen.Skb {
					t.Errorf("passage of %#x, dropped was %#x", p.Skb, all.Drops[0].Seen.Skb)
				}
			}
		})
	}
}

// TestPassagesTwice has two traces explain one lab. Each sees all, and nothing is
// left of either.
func TestPassagesTwice(t *testing.T) {
	lab := up(t, preset(t, "pair"))
	before := openFiles(t)
	opts := TraceOptions{Match: compile(t, "udp dst port 9"), Explain: true}
	first, second := startTrace(t, lab, opts), startTrace(t, lab, opts)
	explained(t, first)
	explained(t, second)
	sendTo(t, lab, "left", "172.16.16.20:9", 5)
	for name, tr := range map[string]*Trace{"first": first, "second": second} {
		if all, ls := ended(t, tr); len(all.Passages) != 5*8 || len(all.Drops) != 5 {
			t.Errorf("%s: %d passages and %d drops, ledgers %+v, %+v", name, len(all.Passages), len(all.Drops), ls.Passages, ls.Drops)
		}
		closeTrace(t, tr)
	}
	if after := openFiles(t); after != before {
		t.Errorf("%d descriptors, before %d", after, before)
	}
}

// TestExplainKilled kills a trace that explains. Nothing of it is left.
func TestExplainKilled(t *testing.T) {
	lab := up(t, preset(t, "pair"))
	before := explaining(t)
	tr := startTrace(t, lab, TraceOptions{Explain: true})
	if now := explaining(t); tr.SeesDrops() && len(now) <= len(before) {
		t.Errorf("links %v, before the trace %v", now, before)
	}
	closeTrace(t, tr)
	killChild(t, command("trace", lab, HookNone, 0))
	wait(t, "all links are gone", func() bool {
		for id := range explaining(t) {
			if !before[id] {
				return false
			}
		}
		return true
	})
}

// explaining returns the links of the machine that are of the types an explainer has.
func explaining(t *testing.T) map[link.ID]bool {
	t.Helper()
	ids := make(map[link.ID]bool)
	var all link.Iterator
	defer all.Close()
	for all.Next() {
		info, err := all.Link.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Type == link.RawTracepointType || info.Type == link.NetfilterType {
			ids[all.ID] = true
		}
	}
	if err := all.Err(); err != nil {
		t.Fatal(err)
	}
	return ids
}
