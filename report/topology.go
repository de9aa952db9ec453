package report

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/topology"
)

// TopologyTable writes a line for each device of each node: its addresses and
// where it leads. A node's namespace stands with its first device, and is - for
// the one that nsbpf runs in.
func TopologyTable(w io.Writer, t *topology.Topology, style Style) error {
	tab := newTable("NODE", "NETNS", "DEVICE", "ADDRESSES", "TO")
	for _, n := range t.Nodes {
		name, ns := n.Name, netns(&n)
		for _, d := range devices(t, &n) {
			tab.row(name, ns, d.name, d.addrs, d.to)
			name, ns = "", ""
		}
		if name != "" {
			tab.row(name, ns, "", "", "")
		}
	}
	return tab.write(w, style)
}

func netns(n *topology.Node) string {
	if n.Netns == "" {
		return "-"
	}
	return n.Netns
}

// device is a line of the table.
type device struct{ name, addrs, to string }

// devices returns n's devices: loopback if it has addresses, bridges, veth ends
// and uplinks.
func devices(t *topology.Topology, n *topology.Node) []device {
	var ds []device
	if len(n.Addrs) > 0 {
		ds = append(ds, device{"lo", prefixes(n.Addrs), ""})
	}
	for _, b := range t.Bridges {
		if b.Node == n.Name {
			ds = append(ds, device{b.Name, prefixes(b.Addrs), "bridge"})
		}
	}
	for _, l := range t.Links {
		for _, pair := range [][2]topology.End{{l.A, l.B}, {l.B, l.A}} {
			if end, peer := pair[0], pair[1]; end.Node == n.Name {
				ds = append(ds, device{end.Device, addresses(end), peer.Node + ":" + peer.Device})
			}
		}
	}
	for _, u := range n.Uplinks {
		ds = append(ds, device{u, "", "outside"})
	}
	return ds
}

func addresses(e topology.End) string {
	if e.Bridge != "" {
		return "port of " + e.Bridge
	}
	return prefixes(e.Addrs)
}

func prefixes(ps []netip.Prefix) string {
	words := make([]string, len(ps))
	for i, p := range ps {
		words[i] = p.String()
	}
	return strings.Join(words, " ")
}

// TopologyJSON writes one object of schema nsbpf.topology/1.
func TopologyJSON(w io.Writer, t *topology.Topology) error {
	return encoder(w).Encode(struct {
		Schema string `json:"schema"`
		*topology.Topology
	}{"nsbpf.topology/1", t})
}

// UpJSON writes one object of schema nsbpf.up/1: a lab that is up, what is
// counted in it, and how long that took; 0 if it was up already.
func UpJSON(w io.Writer, t *topology.Topology, hops []AttachedHop, took time.Duration) error {
	type attachedDoc struct {
		Hop       string        `json:"hop"`
		Node      string        `json:"node"`
		Device    string        `json:"device"`
		Direction hop.Direction `json:"direction"`
		Layer     hop.Layer     `json:"layer"`
		Hook      string        `json:"hook"`
	}
	doc := struct {
		Schema   string             `json:"schema"`
		Lab      string             `json:"lab"`
		TookNS   int64              `json:"took_ns"`
		Topology *topology.Topology `json:"topology"`
		Hops     []attachedDoc      `json:"hops"`
	}{"nsbpf.up/1", t.Name, int64(took), t, []attachedDoc{}}
	for _, a := range hops {
		h := a.Hop
		doc.Hops = append(doc.Hops, attachedDoc{h.String(), h.Node, h.Device, h.Direction, h.Layer, a.Hook})
	}
	return encoder(w).Encode(doc)
}

// TopologyMermaid writes a flowchart: a box for each node with its bridges
// inside, and a line for each link.
func TopologyMermaid(w io.Writer, t *topology.Topology) error {
	var b strings.Builder
	b.WriteString("flowchart LR\n")
	ids := map[string]string{}
	for i, n := range t.Nodes {
		ids[n.Name] = fmt.Sprintf("n%d", i)
	}
	for _, n := range t.Nodes {
		mermaidNode(&b, t, &n, ids)
	}
	for _, l := range t.Links {
		fmt.Fprintf(&b, "  %s ---|\"%s\"| %s\n", mermaidEnd(l.A, ids), l.A.Device+" — "+l.B.Device, mermaidEnd(l.B, ids))
	}
	for _, n := range t.Nodes {
		for _, u := range n.Uplinks {
			fmt.Fprintf(&b, "  %s ---|\"%s\"| outside((outside))\n", mermaidInside(ids[n.Name]), u)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// mermaidNode writes a node as a group: lines can end only at what is in it, so
// one box stands for its stack.
func mermaidNode(b *strings.Builder, t *topology.Topology, n *topology.Node, ids map[string]string) {
	id := ids[n.Name]
	label := []string{n.Name}
	for _, p := range n.Addrs {
		label = append(label, p.String())
	}
	for _, l := range t.Links {
		for _, e := range []topology.End{l.A, l.B} {
			if e.Node == n.Name {
				for _, p := range e.Addrs {
					label = append(label, p.String())
				}
			}
		}
	}
	var bridges strings.Builder
	for i, br := range t.Bridges {
		if br.Node != n.Name {
			continue
		}
		ids[n.Name+"/"+br.Name] = fmt.Sprintf("b%d", i)
		text := append([]string{br.Name}, strings.Fields(prefixes(br.Addrs))...)
		fmt.Fprintf(&bridges, "    b%d[[\"%s\"]]\n    b%d --- %s\n", i, strings.Join(text, "<br/>"), i, mermaidInside(id))
	}
	fmt.Fprintf(b, "  subgraph %s[\"%s\"]\n    %s[\"%s\"]\n%s  end\n", id, n.Name, mermaidInside(id), strings.Join(label, "<br/>"), bridges.String())
}

func mermaidInside(id string) string { return id + "i" }

func mermaidEnd(e topology.End, ids map[string]string) string {
	if e.Bridge != "" {
		return ids[e.Node+"/"+e.Bridge]
	}
	return mermaidInside(ids[e.Node])
}
