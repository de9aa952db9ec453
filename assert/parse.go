package assert

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/nsbpf/nsbpf/internal/nearest"
	"github.com/nsbpf/nsbpf/internal/source"
	"github.com/nsbpf/nsbpf/ping"
	"github.com/nsbpf/nsbpf/topology"
)

// declaration fills a Suite from a file.
type declaration struct {
	*source.File
}

// Parse reads a file of assertions: a list, or a mapping that has one as expect, as
// a topology file may. name is that of the messages.
//
// The error joins one [*source.Error] for each mistake, in the order of the file.
// Whether what is named exists is told by [Suite.Fit].
func Parse(name string, src []byte) (*Suite, error) {
	f, root := source.Read(name, src, "one list of assertions")
	if f.Wrong() {
		return nil, f.Err()
	}
	d := declaration{f}
	s := &Suite{File: name, source: f}
	for _, n := range d.items(root) {
		s.Assertions = append(s.Assertions, d.assertion(n))
	}
	if len(s.Assertions) == 0 && !f.Wrong() {
		f.Mistake("", "nothing is asserted", "- left -> right icmp")
	}
	return s, f.Err()
}

// items returns the nodes of the assertions.
func (d *declaration) items(root ast.Node) []source.Node {
	n := source.Node{Node: root}
	switch root.(type) {
	case nil:
		return nil
	case *ast.MappingNode, *ast.MappingValueNode:
		sections, _ := d.Mapping(n, "the file", "expect", "name", "nodes", "bridges", "links")
		i := slices.IndexFunc(sections, func(e source.Entry) bool { return e.Key == "expect" })
		if i < 0 {
			if !d.Wrong() {
				d.Mistake("", "there is no section expect", "expect: [left -> right icmp]")
			}
			return nil
		}
		n = sections[i].Value
	}
	if _, null := n.Node.(*ast.NullNode); null {
		return nil
	}
	return d.List(n, "assertions")
}

// fields are those of the long form.
var fields = []string{
	"packet", "name", "via", "exactly", "source", "latency", "rtt", "loss",
	"dropped", "count", "interval", "size", "within", "throughput",
}

// assertion reads the short form, which is the packet, or the long one, which has
// it as a field.
func (d *declaration) assertion(n source.Node) Assertion {
	a := Assertion{path: n.Path, Line: d.At(n.Path).Line}
	if line, short := source.Scalar(n.Node); short {
		d.packet(&a, n, line)
		a.Name = a.Text
		return a
	}
	entries, ok := d.Mapping(n, "assertion", fields...)
	if !ok {
		return a
	}
	if len(entries) == 0 || !slices.ContainsFunc(entries, func(e source.Entry) bool { return e.Key == "packet" }) {
		d.Mistake(n.Path, "assertion has no packet", "packet: left -> right icmp")
	}
	for _, e := range entries {
		d.field(&a, e)
	}
	if a.Name == "" {
		a.Name = a.Text
	}
	d.together(&a, entries)
	return a
}

func (d *declaration) field(a *Assertion, e source.Entry) {
	v := e.Value
	switch e.Key {
	case "packet":
		if line, ok := d.Text(v, "packet"); ok {
			d.packet(a, v, line)
		}
	case "name":
		a.Name, _ = d.Text(v, "name")
	case "via", "exactly":
		a.Exactly = e.Key == "exactly"
		for _, item := range d.List(v, e.Key) {
			a.Via = append(a.Via, d.waypoint(item, e.Key))
		}
	case "source":
		a.Source = d.address(v)
	case "latency":
		a.Latency = d.times(v, "latency")
	case "rtt":
		a.RTT = d.times(v, "rtt")
	case "loss":
		a.Loss = d.limit(v, "loss", parsePercent, "such as < 1%")
	case "dropped":
		a.Dropped = d.dropped(v)
	case "count":
		a.Count = d.number(v, "count", 1, ping.MaxCount)
	case "interval":
		a.Interval = d.duration(v, "interval", ping.MinInterval)
	case "size":
		a.Size = d.number(v, "size", 20, ping.MaxSize)
	case "within":
		a.Within = d.duration(v, "within", time.Millisecond)
	case "throughput":
		d.Mistake(v.Path, "throughput cannot be asserted yet", "measure it by nsbpf bench")
	}
}

// together finds fields that do not go with each other or with the packet.
func (d *declaration) together(a *Assertion, entries []source.Entry) {
	given := func(key string) bool {
		return slices.ContainsFunc(entries, func(e source.Entry) bool { return e.Key == key })
	}
	if given("via") && given("exactly") {
		d.Mistake(a.path+".exactly", "via and exactly exclude each other", "exactly names every hop")
	}
	for _, key := range []string{"source", "latency", "rtt", "loss"} {
		if a.Blocked && given(key) {
			d.Mistake(a.path+"."+key, key+" is of packets that get through", "leave it out, or write ->")
		}
	}
	if !a.Blocked && given("dropped") && given("packet") {
		d.Mistake(a.path+".dropped", "dropped is of packets that must not get through", "write -x->")
	}
	if len(a.RTT) > 0 && a.Proto == ping.UDP {
		d.Mistake(a.path+".rtt", "an answer to udp is not certain to come", "ask for latency, which is of the way there")
	}
	if a.Size > 0 && a.Proto == ping.TCP {
		d.Mistake(a.path+".size", "a SYN carries no data", "leave size out, or take icmp or udp")
	}
	if a.Source.IsValid() && a.Dst.IsValid() && a.Source.Is4() != a.Dst.Is4() {
		d.Mistake(a.path+".source", fmt.Sprintf("source %s and destination %s are of two families", a.Source, a.Dst), "")
	}
}

var changes = []string{"snat", "dnat", "snat-back", "dnat-back"}

// waypoint reads NODE:DEVICE [in|out] [snat|dnat|snat-back|dnat-back]…
func (d *declaration) waypoint(n source.Node, what string) Waypoint {
	line, ok := d.Text(n, what)
	if !ok {
		return Waypoint{}
	}
	words := d.Words(n, line)
	if len(words) == 0 {
		d.Mistake(n.Path, "hop is empty", "such as host:eth0 out snat")
		return Waypoint{}
	}
	w := Waypoint{Text: strings.Join(strings.Fields(line), " ")}
	node, device, both := strings.Cut(words[0].Text, ":")
	if w.Node, w.Device = node, device; !both || node == "" || device == "" {
		d.Mistake(n.Path, fmt.Sprintf("%q is not NODE:DEVICE", words[0].Text), "such as host:eth0 out snat")
	}
	for _, word := range words[1:] {
		switch {
		case word.Text == "in" || word.Text == "out":
			w.Way = word.Text
		case slices.Contains(changes, word.Text):
			w.Changes = append(w.Changes, word.Text)
		default:
			hint := nearest.Hint(word.Text, append(changes, "in", "out"))
			if hint == "" {
				hint = "want in, out, " + strings.Join(changes, ", ")
			}
			d.MistakeAt(word.Place, n.Path, fmt.Sprintf("%q is nothing that happens at a hop", word.Text), hint)
		}
	}
	return w
}

func (d *declaration) address(n source.Node) netip.Addr {
	s, ok := d.Text(n, "source")
	a, err := netip.ParseAddr(s)
	if ok && err != nil {
		d.Mistake(n.Path, fmt.Sprintf("source %q is not an address", s), "such as 192.0.2.2")
	}
	return a.Unmap()
}

// times reads limits by quantile; a single one is of the maximum.
func (d *declaration) times(n source.Node, what string) []Limit {
	if _, one := source.Scalar(n.Node); one {
		l := d.limit(n, what, parseTime, "such as < 5ms")
		if l == nil {
			return nil
		}
		l.Of = "max"
		return []Limit{*l}
	}
	var all []Limit
	entries, ok := d.Mapping(n, what, quantiles...)
	for _, e := range entries {
		if l := d.limit(e.Value, what+" "+e.Key, parseTime, "such as < 5ms"); l != nil {
			l.Of = e.Key
			all = append(all, *l)
		}
	}
	if ok && len(entries) == 0 {
		d.Mistake(n.Path, what+" has no limit", "such as {p50: < 100us, max: < 5ms}")
	}
	return all
}

func (d *declaration) limit(n source.Node, what string, parse func(string) (float64, error), hint string) *Limit {
	s, ok := d.Text(n, what)
	if !ok {
		return nil
	}
	l, err := parseLimit(s, parse)
	if err != nil {
		d.Mistake(n.Path, fmt.Sprintf("%s: %s", what, err), hint)
		return nil
	}
	return &l
}

func (d *declaration) dropped(n source.Node) *Dropped {
	entries, ok := d.Mapping(n, "dropped", "in", "hook", "reason", "by")
	if ok && len(entries) == 0 {
		d.Mistake(n.Path, "dropped says nothing", "such as {in: host, hook: forward}")
	}
	drop := &Dropped{}
	for _, e := range entries {
		field := map[string]*string{"in": &drop.In, "hook": &drop.Hook, "reason": &drop.Reason, "by": &drop.By}[e.Key]
		*field, _ = d.Text(e.Value, "dropped: "+e.Key)
	}
	hooks := []string{"prerouting", "input", "forward", "output", "postrouting"}
	if hook := strings.TrimPrefix(drop.Hook, "bridge "); hook != "" && !slices.Contains(hooks, hook) {
		hint := nearest.Hint(hook, hooks)
		if hint == "" {
			hint = "want one of " + strings.Join(hooks, ", ")
		}
		d.Mistake(n.Path+".hook", fmt.Sprintf("%q is no hook of netfilter", drop.Hook), hint)
	}
	return drop
}

func (d *declaration) number(n source.Node, what string, least, most int) int {
	s, ok := d.Text(n, what)
	v, err := strconv.Atoi(s)
	if ok && (err != nil || v < least || v > most) {
		d.Mistake(n.Path, fmt.Sprintf("%s %q is out of range", what, s), fmt.Sprintf("want %d to %d", least, most))
		return 0
	}
	return v
}

func (d *declaration) duration(n source.Node, what string, least time.Duration) time.Duration {
	s, ok := d.Text(n, what)
	v, err := time.ParseDuration(s)
	if ok && (err != nil || v < least || v > ping.MaxWait) {
		d.Mistake(n.Path, fmt.Sprintf("%s %q is out of range", what, s), fmt.Sprintf("want %s to %s", least, ping.MaxWait))
		return 0
	}
	return v
}

// FromTopology returns the assertions of a lab's topology file, and nil if it has
// none.
func FromTopology(t *topology.Topology) (*Suite, error) {
	if t.Expect == nil {
		return nil, nil
	}
	return Parse(t.Expect.File, []byte(t.Expect.Source))
}
