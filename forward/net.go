// Package forward knows how the kernel's configuration of a lab decides where a
// packet goes: it reads it, and follows a packet through it that nobody sends.
// Only the files named *_linux.go touch the kernel.
package forward

import (
	"net/netip"
)

// Net is the configuration of a lab's nodes.
type Net struct {
	Nodes []*Node `json:"nodes"`
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
}

// Device is a network device.
type Device struct {
	Index   int            `json:"index"`
	Name    string         `json:"name"`
	Kind    string         `json:"kind"` // veth, bridge, loopback, …
	MAC     string         `json:"mac,omitempty"`
	MTU     int            `json:"mtu"`
	Up      bool           `json:"up"`      // administratively
	Carrier bool           `json:"carrier"` // operationally
	Addrs   []netip.Prefix `json:"addrs,omitempty"`
	Master  string         `json:"master,omitempty"` // the bridge that it is a port of
	// Port is the state of a bridge port: disabled, listening, learning,
	// forwarding or blocking.
	Port string `json:"port,omitempty"`
	// FDB is what a bridge has learnt or was told: by MAC the port.
	FDB map[string]string `json:"fdb,omitempty"`
	// XDP is the program that is attached, by name, or its ID if it has none.
	XDP string `json:"xdp,omitempty"`
	// Programs are the tc programs and filters that are attached, as "ingress NAME".
	Programs []string `json:"programs,omitempty"`
	// Counters that only ever count lost packets, such as "rx_dropped".
	Counters map[string]uint64 `json:"counters,omitempty"`
}

// Rule is a policy routing rule: for a packet that it fits, Table is asked.
type Rule struct {
	Family   string       `json:"family"` // ip or ip6
	Priority int          `json:"priority"`
	From     netip.Prefix `json:"from,omitzero"`
	To       netip.Prefix `json:"to,omitzero"`
	IIF      string       `json:"iif,omitempty"`
	OIF      string       `json:"oif,omitempty"`
	Mark     uint32       `json:"mark,omitempty"`
	Mask     uint32       `json:"mask,omitempty"`
	Action   string       `json:"action"` // table, blackhole, unreachable, prohibit, goto
	Table    int          `json:"table,omitempty"`
}

// Route is one of the kernel's routes.
type Route struct {
	Table  int          `json:"table"`
	Dst    netip.Prefix `json:"dst"`
	Kind   string       `json:"kind"` // unicast, local, broadcast, multicast, blackhole, unreachable, prohibit, throw
	Via    netip.Addr   `json:"via,omitzero"`
	Device string       `json:"device,omitempty"`
	Src    netip.Addr   `json:"src,omitzero"`
	Metric int          `json:"metric,omitempty"`
	MTU    int          `json:"mtu,omitempty"`
}

// Neighbour is what is known of an address on a link.
type Neighbour struct {
	Addr   netip.Addr `json:"addr"`
	Device string     `json:"device"`
	MAC    string     `json:"mac,omitempty"`
	State  string     `json:"state"` // as ip names it: reachable, stale, failed, incomplete, permanent, …
}

// Table is an nft table with its base chains and the chains that these jump to.
type Table struct {
	Family string  `json:"family"`
	Name   string  `json:"name"`
	Chains []Chain `json:"chains"`
}

// Chain is an nft chain.
type Chain struct {
	Name     string `json:"name"`
	Hook     string `json:"hook,omitempty"` // "" if it is none of the kernel's
	Kind     string `json:"kind,omitempty"` // filter, nat or route
	Priority int    `json:"priority,omitempty"`
	Policy   string `json:"policy,omitempty"` // accept or drop
}
