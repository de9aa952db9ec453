package topology

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/nsbpf/nsbpf/internal/nearest"
	"github.com/nsbpf/nsbpf/internal/source"
)

// declaration fills t from a file. What cannot be read is a mistake and stands
// in t as a zero value, so that whatever comes after it keeps its index.
type declaration struct {
	*source.File
	t       *Topology
	expects bool // there is a section expect
}

func (d *declaration) read(root ast.Node) {
	section := map[string]source.Node{}
	sections, _ := d.Mapping(source.Node{Node: root}, "the topology", "name", "nodes", "bridges", "links", "expect")
	for _, e := range sections {
		section[e.Key] = e.Value
	}
	_, d.expects = section["expect"]
	if n, ok := section["name"]; ok {
		d.t.Name, _ = d.Text(n, "name")
	}
	if n, ok := section["nodes"]; ok {
		entries, _ := d.Mapping(n, "nodes")
		for _, e := range entries {
			d.t.Nodes = append(d.t.Nodes, d.node(e))
		}
	}
	if n, ok := section["bridges"]; ok {
		entries, _ := d.Mapping(n, "bridges")
		for _, e := range entries {
			d.t.Bridges = append(d.t.Bridges, d.bridge(e))
		}
	}
	if n, ok := section["links"]; ok {
		for _, item := range d.List(n, "links") {
			d.t.Links = append(d.t.Links, d.link(item))
		}
	}
	d.bridgeNodes()
}

// makeNode adds the node of that name unless there is one; at is the path of
// the value that asks for it.
func (d *declaration) makeNode(name, at string) {
	if name == "" || d.t.Node(name) != nil {
		return
	}
	d.t.Nodes = append(d.t.Nodes, newNode(name))
	d.Set("nodes."+name, d.At(at))
}

func newNode(name string) Node {
	if name == HostNode {
		return Node{Name: name}
	}
	return Node{Name: name, Netns: name}
}

// bridgeNodes checks that the nodes of the bridges exist. A bridge makes no
// node but host: its name would be all that says there is one.
func (d *declaration) bridgeNodes() {
	for _, b := range d.t.Bridges {
		at := "bridges." + b.Name
		if b.Node == HostNode {
			d.makeNode(HostNode, at)
		} else if d.t.Node(b.Node) == nil {
			hint := nearest.Hint(b.Node, append(d.t.nodeNames(), HostNode))
			if hint == "" {
				hint = "add it under nodes"
			}
			d.Mistake(at+".node", fmt.Sprintf("bridge %q: node %q does not exist", b.Name, b.Node), hint)
		}
	}
}

func (d *declaration) node(e source.Entry) Node {
	n, what := newNode(e.Key), fmt.Sprintf("node %q", e.Key)
	fields, _ := d.Mapping(e.Value, what, "addresses", "routes", "forward", "masquerade", "sysctls")
	for _, f := range fields {
		switch f.Key {
		case "addresses":
			n.Addrs = d.prefixes(f.Value, what+": addresses", d.address)
		case "routes":
			for _, item := range d.List(f.Value, what+": routes") {
				n.Routes = append(n.Routes, d.route(item, what))
			}
		case "forward":
			n.Forward = d.Bool(f.Value, what+": forward")
		case "masquerade":
			n.Masquerade = d.prefixes(f.Value, what+": masquerade", d.subnet)
		case "sysctls":
			entries, _ := d.Mapping(f.Value, what+": sysctls")
			for _, kv := range entries {
				v, _ := d.Text(kv.Value, what+": sysctl "+kv.Key)
				n.Sysctls = append(n.Sysctls, Sysctl{kv.Key, v})
			}
		}
	}
	n.Forward = n.Forward || len(n.Masquerade) != 0
	return n
}

func (d *declaration) bridge(e source.Entry) Bridge {
	b, what := Bridge{Name: e.Key, Node: HostNode}, fmt.Sprintf("bridge %q", e.Key)
	fields, _ := d.Mapping(e.Value, what, "node", "addresses")
	for _, f := range fields {
		switch f.Key {
		case "node":
			b.Node, _ = d.Text(f.Value, what+": node")
		case "addresses":
			b.Addrs = d.prefixes(f.Value, what+": addresses", d.address)
		}
	}
	return b
}

// link reads the short form, [END, END], or the long one, {a: END, b: END}.
func (d *declaration) link(n source.Node) Link {
	var l Link
	if _, short := n.Node.(*ast.SequenceNode); short {
		ends := d.List(n, "link")
		if len(ends) != 2 {
			d.Mistake(n.Path, fmt.Sprintf("link has %s", countEnds(len(ends))), "write [a, b]")
			return l
		}
		l.A = d.end(d.Child(ends[0].Node, n.Path+".a"))
		l.B = d.end(d.Child(ends[1].Node, n.Path+".b"))
		return l
	}
	if _, line := source.Scalar(n.Node); line {
		d.Unwanted(n, "link", "[a, b] or {a: …, b: …}", "")
		return l
	}
	fields, ok := d.Mapping(n, "link", "a", "b", "mtu")
	if !ok {
		return l
	}
	seen := map[string]bool{}
	for _, f := range fields {
		seen[f.Key] = true
		switch f.Key {
		case "a":
			l.A = d.end(d.Child(f.Value.Node, f.Value.Path))
		case "b":
			l.B = d.end(d.Child(f.Value.Node, f.Value.Path))
		case "mtu":
			l.MTU = d.mtu(f.Value)
		}
	}
	for _, side := range []string{"a", "b"} {
		if !seen[side] {
			d.Mistake(n.Path, fmt.Sprintf("link has no end %q", side), "a link is [a, b] or {a: …, b: …}")
		}
	}
	return l
}

func (d *declaration) mtu(n source.Node) int {
	v, ok := d.Text(n, "mtu")
	mtu, err := strconv.Atoi(v)
	if ok && (err != nil || mtu < 68 || mtu > 65535) {
		d.Mistake(n.Path, fmt.Sprintf("mtu %q is not a number from 68 to 65535", v), "")
		return 0
	}
	return mtu
}

// end reads NODEORBRIDGE[:DEVICE] [ADDR...], or the same as a mapping.
func (d *declaration) end(n source.Node) End {
	if line, ok := source.Scalar(n.Node); ok {
		return d.shortEnd(n, line)
	}
	fields, ok := d.Mapping(n, "end", "node", "bridge", "device", "addresses")
	if !ok {
		return End{}
	}
	var e End
	for _, f := range fields {
		switch f.Key {
		case "node":
			e.Node, _ = d.Text(f.Value, "end: node")
		case "bridge":
			e.Bridge, _ = d.Text(f.Value, "end: bridge")
		case "device":
			e.Device, _ = d.Text(f.Value, "end: device")
			d.device(f.Value.Path, e.Device)
		case "addresses":
			e.Addrs = d.prefixes(f.Value, "end: addresses", d.address)
		}
	}
	bridge := e.Bridge != ""
	switch {
	case bridge && e.Node != "":
		d.Mistake(n.Path, fmt.Sprintf("end has node %q and bridge %q", e.Node, e.Bridge), "a bridge's node is given with the bridge")
		return End{}
	case bridge:
		d.port(&e, n.Path)
	case e.Node != "":
		d.makeNode(e.Node, n.Path+".node")
	default:
		d.Mistake(n.Path, "end has no node and no bridge", `such as {node: left}`)
	}
	return e
}

func (d *declaration) shortEnd(n source.Node, line string) End {
	words := d.Words(n, line)
	if len(words) == 0 {
		d.Mistake(n.Path, "end is empty", `such as "left:eth0 10.0.0.1/24"`)
		return End{}
	}
	var e End
	name, device, given := strings.Cut(words[0].Text, ":")
	e.Device = device
	d.Set(n.Path+".device", source.Place{Line: words[0].Line, Col: words[0].Col + len(name) + 1})
	if given {
		d.device(n.Path+".device", device)
	}
	for i, w := range words[1:] {
		path := fmt.Sprintf("%s.addresses[%d]", n.Path, i)
		d.Set(path, w.Place)
		e.Addrs = append(e.Addrs, d.address(path, w.Text))
	}
	if slices.ContainsFunc(d.t.Bridges, func(b Bridge) bool { return b.Name == name }) {
		e.Bridge = name
		d.port(&e, n.Path)
	} else if e.Node = name; name == "" {
		d.Mistake(n.Path, "end has no node", `such as "left:eth0 10.0.0.1/24"`)
	} else {
		d.makeNode(name, n.Path)
	}
	return e
}

// device records a mistake if a device is named, but by nothing.
func (d *declaration) device(path, name string) {
	if name == "" {
		d.Mistake(path, "end has an empty device name", "leave it out to have one made")
	}
}

// port gives e, which is at a bridge, the bridge's node.
func (d *declaration) port(e *End, path string) {
	var names []string
	for _, b := range d.t.Bridges {
		if b.Name == e.Bridge {
			e.Node = b.Node
		}
		names = append(names, b.Name)
	}
	if e.Node == "" {
		d.Mistake(path+".bridge", fmt.Sprintf("bridge %q does not exist", e.Bridge), nearest.Hint(e.Bridge, names))
	}
	if len(e.Addrs) != 0 {
		d.Mistake(path+".addresses", fmt.Sprintf("end is a port of bridge %q and has addresses", e.Bridge), "give them to the bridge")
	}
}

func (t *Topology) nodeNames() []string {
	var names []string
	for _, n := range t.Nodes {
		names = append(names, n.Name)
	}
	return names
}

// prefixes reads a list with parse, which gets each item's path and text.
func (d *declaration) prefixes(n source.Node, what string, parse func(path, s string) netip.Prefix) []netip.Prefix {
	var all []netip.Prefix
	for _, item := range d.List(n, what) {
		var p netip.Prefix
		if s, ok := d.Text(item, what); ok {
			p = parse(item.Path, s)
		}
		all = append(all, p)
	}
	return all
}

func countEnds(n int) string {
	if n == 1 {
		return "1 end"
	}
	return fmt.Sprintf("%d ends", n)
}
