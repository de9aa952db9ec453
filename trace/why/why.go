// Package why explains how a packet ended: from what the kernel says of it, and
// from the configuration of the nodes where it was, it draws one conclusion in the
// words of a network engineer. What it knows of reasons is a table, causes.yaml.
package why

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nsbpf/nsbpf/forward"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/trace"
)

// Case is a Path that is to be explained, and what is known of where it went.
type Case struct {
	Path *trace.Path
	Hops []hop.Hop
	// Nodes are the configurations of the nodes concerned. Without them less can be
	// concluded.
	Nodes []*forward.Node
	Armed Armed
	// Changed has, by node, the counters of losses that changed while the packet
	// was on its way, in words.
	Changed map[string][]string
}

// Armed says what was watched.
type Armed struct {
	Drops     bool // the kernel's drops: the tracepoint kfree_skb
	Netfilter bool // both ends of netfilter's hooks
	Rules     bool // nft's rules
}

// Explain says why the packet did not arrive. It returns the zero Conclusion for
// one that did, or that may yet.
func Explain(c Case) Conclusion {
	if !c.Path.Lost() {
		return Conclusion{}
	}
	s, t := newScene(c), causes()
	for i := range t.Causes {
		if k := &t.Causes[i]; s.suits(k) {
			return s.conclude(k, t.Arms)
		}
	}
	return Conclusion{}
}

// Harmless says of a packet that was delivered whether it had done its work by the
// time when it was dropped, as a TCP acknowledgement of what is known already.
func Harmless(d *trace.Drop) bool {
	t := causes()
	for _, k := range t.harmless {
		if k.names(d) {
			s := scene{drop: d, packet: &d.Sighting} // of the packet only is asked
			if s.holds(k) {
				return true
			}
		}
	}
	return false
}

// suits says whether k is the cause, as far as its conditions go.
func (s *scene) suits(k *cause) bool {
	switch {
	case k.Harmless, k.Filtered != (s.Path.DroppedBy != 0), k.Lost != (s.drop == nil && !k.Filtered):
		return false
	case s.drop != nil && !k.Filtered && !k.names(s.drop), !s.holds(k):
		return false
	}
	for _, text := range [...]string{k.place(), k.Say, k.Do} {
		if _, ok := fill(text, s.value); !ok {
			return false
		}
	}
	return true
}

// holds says whether what k asks for in Group and When does.
func (s *scene) holds(k *cause) bool {
	if k.Group && !s.packet.IsGroup() {
		return false
	}
	for name, pattern := range k.When {
		if !fits(pattern, s.value(name)) {
			return false
		}
	}
	return true
}

// fits says whether a value is one of pattern's, which are separated by |. The
// empty one is that of an unknown value, and * that of any other.
func fits(pattern, value string) bool {
	if pattern == "*" {
		return value != ""
	}
	return slices.Contains(strings.Split(pattern, "|"), value)
}

// conclude draws the conclusion from k, which suits.
func (s *scene) conclude(k *cause, arms map[string]string) Conclusion {
	c := Conclusion{Code: k.Code, Certain: !k.Uncertain, Evidence: s.evidence(k.Uncertain)}
	c.Place, _ = fill(k.place(), s.value)
	c.Sentence, _ = fill(k.Say, s.value)
	c.Advice, _ = fill(k.Do, s.value)
	switch {
	case k.Filtered:
	case k.Lost:
		c.Sentence = fmt.Sprintf("last seen at %s: %s", nameOf(s.last), c.Sentence)
	default:
		c.Sentence = fmt.Sprintf("dropped in %s: %s", c.Place, c.Sentence)
	}
	for _, a := range k.Arm {
		if a == armDrops && s.Armed.Drops || a == armExplain && s.Armed.Rules && s.Armed.Netfilter {
			continue
		}
		c.Arm = append(c.Arm, arms[a])
	}
	if s.hidden() {
		c.Arm = append(c.Arm, arms[armFunctions])
	}
	return c
}

// hidden says whether more would be known if the kernel did not hide its functions:
// one of them tells what the reason does not, or at which hook of netfilter it was.
func (s *scene) hidden() bool {
	if s.drop == nil || s.drop.Function != "" || s.drop.Reason == "" {
		return false
	}
	hook, asked := s.known["hook"]
	return asked && hook == "" || causes().tells(s.drop.Reason)
}

// evidence lists what the conclusion rests on; the counters if it is not certain.
func (s *scene) evidence(uncertain bool) []string {
	var all []string
	if d := s.drop; d != nil {
		line := "kernel: " + d.Reason
		if d.Function != "" {
			line += " in " + d.Function
		}
		if len(d.Callers) > 0 {
			line += ", called by " + strings.Join(d.Callers[:min(len(d.Callers), 4)], ", ")
		}
		all = append(all, line)
		if r := d.Rule; r != nil {
			all = append(all, fmt.Sprintf("nft: %s of table %s %s, chain %s, says %s", s.value("rule-kind"), r.Family, r.Table, r.Chain, r.Verdict))
		}
	}
	if s.ruled != nil {
		all = append(all, "route: "+s.ruled.String())
	}
	if c := s.value("counters"); c != "" && uncertain {
		all = append(all, "counters: "+c)
	}
	return all
}
