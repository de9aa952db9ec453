package forward

import "fmt"

// Effect is what an [Obstacle] does to a packet.
type Effect string

const (
	Stops   Effect = "stops"   // the packet ends here
	Unknown Effect = "unknown" // whether it does cannot be told
	Note    Effect = "note"    // it goes on, but somebody should know
)

// Code names a kind of obstacle; JSON has it.
type Code string

const (
	NoRoute       Code = "no_route"
	RouteRefuses  Code = "route_refuses" // unreachable, blackhole or prohibit
	NoSource      Code = "no_source"     // the node has no address to send from
	NotForwarding Code = "not_forwarding"
	ReversePath   Code = "rp_filter"
	Martian       Code = "martian"
	NoNeighbour   Code = "no_neighbour" // nobody on the link has the address
	Unresolved    Code = "neighbour"    // the kernel's entry says failed, incomplete or a wrong MAC
	TooBig        Code = "mtu"
	HopLimit      Code = "ttl"
	DeviceDown    Code = "device_down"
	PortState     Code = "bridge_port"
	WrongPort     Code = "fdb"
	Netfilter     Code = "netfilter"
	Legacy        Code = "iptables_legacy" // its rules are not read
	Program       Code = "program"         // somebody's XDP or tc program
	NobodyListens Code = "no_socket"
	Ignored       Code = "ignored"       // echo requests are not answered
	FamilyOff     Code = "disabled"      // disable_ipv6
	NotFollowed   Code = "not_followed"  // what this package does not know
	Outside       Code = "outside"       // what is outside the lab is not known
	Endless       Code = "loop"          // it goes in circles
	SeveralRoutes Code = "route_unknown" // which route is taken cannot be told
)

// Obstacle is what stands in a packet's way, or may.
type Obstacle struct {
	Code   Code   `json:"code"`
	Effect Effect `json:"effect"`
	Node   string `json:"node"`
	Device string `json:"device,omitempty"`
	Hook   string `json:"hook,omitempty"` // of netfilter
	// Rule is that of nft which does it.
	Rule *RuleAt `json:"rule,omitempty"`
	// Step is the index of the step behind which it stands; -1: before the first.
	Step     int    `json:"step"`
	Sentence string `json:"sentence"`
	// Advice is what mends it. Commands stand in backquotes and can be run as they
	// are, but for words in capitals.
	Advice string `json:"advice,omitempty"`
}

// run returns the command that runs a command in the node, as advice has it.
func (n *Node) run(format string, args ...any) string {
	return "`nsbpf exec " + n.Name + " -- " + fmt.Sprintf(format, args...) + "`"
}
