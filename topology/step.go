package topology

import "net/netip"

// Step is one change of the kernel. It prints itself as the commands an
// engineer would type; how it is done and undone stands beside it in
// *_linux.go. Steps name namespaces, not nodes: an empty Netns is the namespace
// nsbpf runs in.
type Step interface {
	// Commands returns the lines of shell that do the same, without newlines at
	// their ends; a here-document is one element. Nothing to type is nil.
	Commands() []string
}

// AddNetns makes a named namespace with loopback up and no IPv6 duplicate
// address detection.
type AddNetns struct {
	Netns string
}

// SetSysctl sets one key below net.
type SetSysctl struct {
	Netns string
	Key   string
	Value string
}

// AddBridge makes a bridge with a fixed MAC, down.
type AddBridge struct {
	Netns   string
	Name    string
	AltName string
	MAC     string
	Group   uint32
}

// AddVeth makes a veth pair with both ends in place, down.
type AddVeth struct {
	A, B  VethEnd
	MTU   int
	Group uint32
}

// VethEnd is one end of an [AddVeth]. Master, if set, is a bridge of the same
// namespace, and the end then has no IPv6 address of its own.
type VethEnd struct {
	Netns   string
	Name    string
	AltName string
	Master  string
}

// AddAddr gives a device an address, without duplicate address detection.
type AddAddr struct {
	Netns  string
	Device string
	Addr   netip.Prefix
}

// SetUp brings a device up.
type SetUp struct {
	Netns  string
	Device string
}

// AddRoute adds a route to the main table.
type AddRoute struct {
	Netns string
	Dst   netip.Prefix
	Via   netip.Addr
}

// AddMasquerade makes the nftables tables (ip, ip6, as Sources has families)
// Table with chain POSTROUTING and one rule a source. NotOut lists the bridges
// whose traffic keeps its source.
type AddMasquerade struct {
	Netns   string
	Table   string
	Sources []netip.Prefix
	NotOut  []string
}

// Plan is an ordered list of Steps that builds a Topology from nothing.
type Plan []Step
