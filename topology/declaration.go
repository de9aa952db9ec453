package topology

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/nsbpf/nsbpf/internal/nearest"
)

// declaration fills t from a file. What cannot be read is a mistake and stands
// in t as a zero value, so that whatever comes after it keeps its index.
type declaration struct {
	*source
	t *Topology
}

func (d *declaration) read(root ast.Node) {
	section := map[string]node{}
	sections, _ := d.mapping(node{root, ""}, "the topology", "name", "nodes", "bridges", "links")
	for _, e := range sections {
		section[e.key] = e.value
	}
	if n, ok := section["name"]; ok {
		d.t.Name, _ = d.text(n, "name")
	}
	if n, ok := section["nodes"]; ok {
		entries, _ := d.mapping(n, "nodes")
		for _, e := range entries {
			d.t.Nodes = append(d.t.Nodes, d.node(e))
		}
	}
	if n, ok := section["bridges"]; ok {
		entries, _ := d.mapping(n, "bridges")
		for _, e := range entries {
			d.t.Bridges = append(d.t.Bridges, d.bridge(e))
		}
	}
	if n, ok := section["links"]; ok {
		for _, item := range d.list(n, "links") {
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
	d.at["nodes."+name] = d.at[at]
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
			d.mistake(at+".node", fmt.Sprintf("bridge %q: node %q does not exist", b.Name, b.Node), hint)
		}
	}
}

func (d *declaration) node(e entry) Node {
	n, what := newNode(e.key), fmt.Sprintf("node %q", e.key)
	fields, _ := d.mapping(e.value, what, "addresses", "routes", "forward", "masquerade", "sysctls")
	for _, f := range fields {
		switch f.key {
		case "addresses":
			n.Addrs = d.prefixes(f.value, what+": addresses", d.address)
		case "routes":
			for _, item := range d.list(f.value, what+": routes") {
				n.Routes = append(n.Routes, d.route(item, what))
			}
		case "forward":
			n.Forward = d.bool(f.value, what+": forward")
		case "masquerade":
			n.Masquerade = d.prefixes(f.value, what+": masquerade", d.subnet)
		case "sysctls":
			entries, _ := d.mapping(f.value, what+": sysctls")
			for _, kv := range entries {
				v, _ := d.text(kv.value, what+": sysctl "+kv.key)
				n.Sysctls = append(n.Sysctls, Sysctl{kv.key, v})
			}
		}
	}
	n.Forward = n.Forward || len(n.Masquerade) != 0
	return n
}

func (d *declaration) bridge(e entry) Bridge {
	b, what := Bridge{Name: e.key, Node: HostNode}, fmt.Sprintf("bridge %q", e.key)
	fields, _ := d.mapping(e.value, what, "node", "addresses")
	for _, f := range fields {
		switch f.key {
		case "node":
			b.Node, _ = d.text(f.value, what+": node")
		case "addresses":
			b.Addrs = d.prefixes(f.value, what+": addresses", d.address)
		}
	}
	return b
}

// link reads the short form, [END, END], or the long one, {a: END, b: END}.
func (d *declaration) link(n node) Link {
	var l Link
	if _, short := n.Node.(*ast.SequenceNode); short {
		ends := d.list(n, "link")
		if len(ends) != 2 {
			d.mistake(n.path, fmt.Sprintf("link has %s", countEnds(len(ends))), "write [a, b]")
			return l
		}
		l.A = d.end(d.child(ends[0].Node, n.path+".a"))
		l.B = d.end(d.child(ends[1].Node, n.path+".b"))
		return l
	}
	if _, line := text(n.Node); line {
		d.unwanted(n, "link", "[a, b] or {a: …, b: …}", "")
		return l
	}
	fields, ok := d.mapping(n, "link", "a", "b", "mtu")
	if !ok {
		return l
	}
	seen := map[string]bool{}
	for _, f := range fields {
		seen[f.key] = true
		switch f.key {
		case "a":
			l.A = d.end(d.child(f.value.Node, f.value.path))
		case "b":
			l.B = d.end(d.child(f.value.Node, f.value.path))
		case "mtu":
			l.MTU = d.mtu(f.value)
		}
	}
	for _, side := range []string{"a", "b"} {
		if !seen[side] {
			d.mistake(n.path, fmt.Sprintf("link has no end %q", side), "a link is [a, b] or {a: …, b: …}")
		}
	}
	return l
}

func (d *declaration) mtu(n node) int {
	v, ok := d.text(n, "mtu")
	mtu, err := strconv.Atoi(v)
	if ok && (err != nil || mtu < 68 || mtu > 65535) {
		d.mistake(n.path, fmt.Sprintf("mtu %q is not a number from 68 to 65535", v), "")
		return 0
	}
	return mtu
}

// end reads NODEORBRIDGE[:DEVICE] [ADDR...], or the same as a mapping.
func (d *declaration) end(n node) End {
	if line, ok := text(n.Node); ok {
		return d.shortEnd(n, line)
	}
	fields, ok := d.mapping(n, "end", "node", "bridge", "device", "addresses")
	if !ok {
		return End{}
	}
	var e End
	for _, f := range fields {
		switch f.key {
		case "node":
			e.Node, _ = d.text(f.value, "end: node")
		case "bridge":
			e.Bridge, _ = d.text(f.value, "end: bridge")
		case "device":
			e.Device, _ = d.text(f.value, "end: device")
			d.device(f.value.path, e.Device)
		case "addresses":
			e.Addrs = d.prefixes(f.value, "end: addresses", d.address)
		}
	}
	bridge := e.Bridge != ""
	switch {
	case bridge && e.Node != "":
		d.mistake(n.path, fmt.Sprintf("end has node %q and bridge %q", e.Node, e.Bridge), "a bridge's node is given with the bridge")
		return End{}
	case bridge:
		d.port(&e, n.path)
	case e.Node != "":
		d.makeNode(e.Node, n.path+".node")
	default:
		d.mistake(n.path, "end has no node and no bridge", `such as {node: left}`)
	}
	return e
}

func (d *declaration) shortEnd(n node, line string) End {
	words, at := wordsOf(line), d.at[n.path]
	if n.GetToken().Value != n.GetToken().Origin && strings.ContainsAny(n.GetToken().Origin, `"'`) {
		at.col++ // behind the quote
	}
	if len(words) == 0 {
		d.mistake(n.path, "end is empty", `such as "left:eth0 10.0.0.1/24"`)
		return End{}
	}
	var e End
	name, device, given := strings.Cut(words[0].text, ":")
	e.Device = device
	d.at[n.path+".device"] = place{at.line, at.col + words[0].col + len(name) + 1}
	if given {
		d.device(n.path+".device", device)
	}
	for i, w := range words[1:] {
		path := fmt.Sprintf("%s.addresses[%d]", n.path, i)
		d.at[path] = place{at.line, at.col + w.col}
		e.Addrs = append(e.Addrs, d.address(path, w.text))
	}
	if slices.ContainsFunc(d.t.Bridges, func(b Bridge) bool { return b.Name == name }) {
		e.Bridge = name
		d.port(&e, n.path)
	} else if e.Node = name; name == "" {
		d.mistake(n.path, "end has no node", `such as "left:eth0 10.0.0.1/24"`)
	} else {
		d.makeNode(name, n.path)
	}
	return e
}

// device records a mistake if a device is named, but by nothing.
func (d *declaration) device(path, name string) {
	if name == "" {
		d.mistake(path, "end has an empty device name", "leave it out to have one made")
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
		d.mistake(path+".bridge", fmt.Sprintf("bridge %q does not exist", e.Bridge), nearest.Hint(e.Bridge, names))
	}
	if len(e.Addrs) != 0 {
		d.mistake(path+".addresses", fmt.Sprintf("end is a port of bridge %q and has addresses", e.Bridge), "give them to the bridge")
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
func (d *declaration) prefixes(n node, what string, parse func(path, s string) netip.Prefix) []netip.Prefix {
	var all []netip.Prefix
	for _, item := range d.list(n, what) {
		var p netip.Prefix
		if s, ok := d.text(item, what); ok {
			p = parse(item.path, s)
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
