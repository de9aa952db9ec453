// Package forward knows how the kernel's configuration of a lab decides where a
// packet goes: it reads it, and follows a packet through it that nobody sends.
// Only the files named *_linux.go touch the kernel.
package forward

import "net/netip"

// Net is the configuration of a lab's nodes.
type Net struct {
	Nodes []*Node `json:"nodes"`
}

// Node returns the node of that name, or nil.
func (n *Net) Node(name string) *Node {
	for _, node := range n.Nodes {
		if node.Name == name {
			return node
		}
	}
	return nil
}

// Node is what decides in one network namespace where packets go.
type Node struct {
	Name    string   `json:"name"`
	TimeNS  int64    `json:"time_ns"` // when it was read, since the epoch
	Devices []Device `json:"devices"`
	Rules   []Rule   `json:"rules"`  // by priority
	Routes  []Route  `json:"routes"` // of all tables
	// Neighbours are the entries of both families.
	Neighbours []Neighbour `json:"neighbours,omitempty"`
	// Sysctls has those that decide about packets, such as
	// "net.ipv4.conf.eth0.rp_filter".
	Sysctls map[string]string `json:"sysctls"`
	// Tables are nft's.
	Tables []Table `json:"tables,omitempty"`
	// Legacy are the tables of iptables-legacy that the kernel has there, as "ip
	// filter". What stands in them is not read.
	Legacy []string `json:"legacy,omitempty"`
	// Sockets are those that take what comes from anybody: TCP that listen, and UDP
	// that are bound. It is nil if they were not read.
	Sockets []Socket `json:"sockets"`
}

// Device returns the device of that name, or nil.
func (n *Node) Device(name string) *Device {
	for i := range n.Devices {
		if n.Devices[i].Name == name {
			return &n.Devices[i]
		}
	}
	return nil
}

// Device is a network device.
type Device struct {
	Index   int            `json:"index"`
	Name    string         `json:"name"`
	Kind    string         `json:"kind"` // veth, bridge, loopback, …; "" of hardware
	MAC     string         `json:"mac,omitempty"`
	MTU     int            `json:"mtu"`
	Up      bool           `json:"up"`      // administratively
	Carrier bool           `json:"carrier"` // operationally
	Addrs   []netip.Prefix `json:"addrs,omitempty"`
	Master  string         `json:"master,omitempty"` // the bridge that it is a port of
	// Peer is the other end of a veth pair, as "node:device"; "" if that is in no
	// node of the lab.
	Peer string `json:"peer,omitempty"`
	// Port is the state of a bridge port: disabled, listening, learning,
	// forwarding or blocking.
	Port string `json:"port,omitempty"`
	// Isolated ports of a bridge do not reach each other.
	Isolated bool `json:"isolated,omitempty"`
	// VLANs says that a bridge filters by VLAN.
	VLANs bool `json:"vlans,omitempty"`
	// Netfilter has the families, ip and ip6, whose hooks a bridge of its own
	// setting lets bridged packets pass, whatever net.bridge says.
	Netfilter []string `json:"netfilter,omitempty"`
	// FDB is what a bridge has learnt or was told: by MAC the port, or the bridge
	// for what is its own.
	FDB map[string]string `json:"fdb,omitempty"`
	// XDP is the program that is attached, by name, or its ID if it has none.
	XDP string `json:"xdp,omitempty"`
	// Programs are the tc programs and filters that are attached, as "ingress NAME".
	Programs []string `json:"programs,omitempty"`
	// Counters that only ever count lost packets, such as "rx_dropped", as far as
	// they are not 0.
	Counters map[string]uint64 `json:"counters,omitempty"`
}

// Rule is a policy routing rule: for a packet that it fits, Table is asked.
type Rule struct {
	Family   string       `json:"family"` // ip or ip6
	Priority int          `json:"priority"`
	Not      bool         `json:"not,omitempty"` // it fits what does not fit the rest
	From     netip.Prefix `json:"from,omitzero"`
	To       netip.Prefix `json:"to,omitzero"`
	IIF      string       `json:"iif,omitempty"`
	OIF      string       `json:"oif,omitempty"`
	Mark     uint32       `json:"mark,omitempty"`
	Mask     uint32       `json:"mask,omitempty"`
	TOS      int          `json:"tos,omitempty"`
	Proto    int          `json:"proto,omitempty"`
	Sport    [2]uint16    `json:"sport,omitzero"` // first and last
	Dport    [2]uint16    `json:"dport,omitzero"`
	Action   string       `json:"action"` // table, blackhole, unreachable, prohibit, goto, nop
	Table    int          `json:"table,omitempty"`
	Goto     int          `json:"goto,omitempty"` // the priority that goto goes on at
	// Suppress is the longest prefix whose routes do not count, less 0: none.
	Suppress *int `json:"suppress,omitempty"`
	// Other names what else it asks that is not understood here.
	Other string `json:"other,omitempty"`
}

// Route is one of the kernel's routes.
type Route struct {
	Table  int          `json:"table"`
	Dst    netip.Prefix `json:"dst"`
	From   netip.Prefix `json:"from,omitzero"` // IPv6: only of such sources
	Kind   string       `json:"kind"`          // unicast, local, broadcast, anycast, multicast, blackhole, unreachable, prohibit, throw
	Via    netip.Addr   `json:"via,omitzero"`
	Device string       `json:"device,omitempty"`
	Src    netip.Addr   `json:"src,omitzero"`
	Metric int          `json:"metric,omitempty"`
	TOS    int          `json:"tos,omitempty"`
	MTU    int          `json:"mtu,omitempty"`
	Dead   bool         `json:"dead,omitempty"` // the kernel does not use it
	// Hops are the next hops of a route that has several. Via and Device are then
	// empty.
	Hops []NextHop `json:"hops,omitempty"`
}

// NextHop is one of several that a route has.
type NextHop struct {
	Via    netip.Addr `json:"via,omitzero"`
	Device string     `json:"device"`
	Dead   bool       `json:"dead,omitempty"`
}

// Neighbour is what is known of an address on a link.
type Neighbour struct {
	Addr   netip.Addr `json:"addr"`
	Device string     `json:"device"`
	MAC    string     `json:"mac,omitempty"`
	State  string     `json:"state"` // as ip names it: reachable, stale, failed, incomplete, permanent, …
}

// Socket takes packets that come to Port.
type Socket struct {
	Proto string     `json:"proto"` // tcp or udp
	Addr  netip.Addr `json:"addr"`  // unspecified: any of the node; of [::] IPv4 too unless Only6
	Port  uint16     `json:"port"`
	Only6 bool       `json:"only6,omitempty"`
}
