// Package topology turns a file or a preset into a running network and back
// into nothing: file → [Topology] → [Plan] → [Lab].
//
// Parsing, validating, planning and printing are pure. Files named *_linux.go
// touch the kernel.
package topology

import (
	"net/netip"

	"github.com/nsbpf/nsbpf/internal/hop"
)

// HostNode is the reserved node that is not made: the namespace nsbpf runs in.
// An isolated Topology has a made node of this name instead.
const HostNode = "host"

// WANNode is the node that [Topology.WithWAN] adds.
const WANNode = "wan"

// Hop is where packets are looked at; see [hop.Hop].
type Hop = hop.Hop

// Topology is a declared network, complete: every name is filled in, names of
// namespaces and devices are those of the kernel. It is plain data; functions
// that change one return a changed copy.
type Topology struct {
	Name    string   `json:"name"` // of the lab
	Nodes   []Node   `json:"nodes"`
	Bridges []Bridge `json:"bridges,omitempty"`
	Links   []Link   `json:"links,omitempty"`
	// Expect is what is asserted of the network; nil: nothing. It is read by
	// package assert.
	Expect *Expect `json:"expect,omitempty"`
}

// Expect is a topology file that has a section expect, as it was read.
type Expect struct {
	File   string `json:"file"`
	Source string `json:"source"`
}

// Node is a network namespace.
type Node struct {
	Name string `json:"name"`
	// Netns is the namespace's name under /run/netns; empty for the namespace
	// nsbpf runs in.
	Netns string `json:"netns,omitempty"`
	// Addrs are addresses of the loopback device, besides 127.0.0.1 and ::1.
	Addrs   []netip.Prefix `json:"addresses,omitempty"`
	Routes  []Route        `json:"routes,omitempty"`
	Forward bool           `json:"forward,omitempty"`
	// Masquerade lists the sources whose packets leave the node with the node's
	// own address, unless they leave by a bridge.
	Masquerade []netip.Prefix `json:"masquerade,omitempty"`
	// Uplinks are the devices of the real host that lead outside (the devices of
	// its default routes), found by [Topology.WithUplinks]. Nothing is made of them.
	Uplinks []string `json:"uplinks,omitempty"`
	// Sysctls are set in the node, before its links exist.
	Sysctls []Sysctl `json:"sysctls,omitempty"`
}

// Sysctl is a key below net, in dotted form, and its value.
type Sysctl struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Route is an entry of a node's main table.
type Route struct {
	Dst netip.Prefix `json:"dst"` // 0.0.0.0/0 or ::/0: default
	Via netip.Addr   `json:"via"`
}

// Bridge is a bridge device without spanning tree.
type Bridge struct {
	Name  string         `json:"name"`
	Node  string         `json:"node"`
	Addrs []netip.Prefix `json:"addresses,omitempty"`
	// AltName is the full name where Name had to be shortened.
	AltName string `json:"altname,omitempty"`
}

// Link is a veth pair.
type Link struct {
	A   End `json:"a"`
	B   End `json:"b"`
	MTU int `json:"mtu,omitempty"` // 0: 1500
}

// End is one side of a Link.
type End struct {
	Node    string         `json:"node"`
	Device  string         `json:"device"`
	Bridge  string         `json:"bridge,omitempty"` // the Bridge this end is a port of
	Addrs   []netip.Prefix `json:"addresses,omitempty"`
	AltName string         `json:"altname,omitempty"`
}

// Node returns the node of that name, or nil.
func (t *Topology) Node(name string) *Node {
	for i := range t.Nodes {
		if t.Nodes[i].Name == name {
			return &t.Nodes[i]
		}
	}
	return nil
}
