// Package assert reads what is asserted of a network, and judges it by probes and
// their Paths. It sends nothing and is pure.
package assert

import (
	"net/netip"
	"slices"
	"time"

	"github.com/nsbpf/nsbpf/internal/source"
	"github.com/nsbpf/nsbpf/ping"
)

// Suite is the assertions of one file.
type Suite struct {
	File       string
	Assertions []Assertion

	source *source.File
}

// Assertion is what must hold of packets from a node to another, or to an address.
type Assertion struct {
	Name string // for reports: the packet as the file has it, unless it gives a name
	Text string // the packet, such as "left -> wan tcp/80"
	Line int    // of the file
	path string // of the values in the file

	From string // a node
	To   string // a node or an address
	// Blocked says that no packet may come to the destination; else each must get
	// through, unless Loss allows for some.
	Blocked bool
	Proto   ping.Proto
	Port    uint16
	Six     bool       // to the node's IPv6 address
	Dst     netip.Addr // of To; [Suite.Fit] finds it where To is a node

	Count    int           // packets; 0: the default
	Interval time.Duration // from one to the next; 0: the default
	Size     int           // bytes behind the ICMP or UDP header; 0: the default
	Within   time.Duration // how long is tried again until it holds; 0: not again

	Via     []Waypoint // what is on the way, in this order
	Exactly bool       // and nothing else is
	Source  netip.Addr // as the receiver sees it; zero: not asked for
	Latency []Limit    // of the way there
	RTT     []Limit    // of the round trip
	Loss    *Limit     // in percent
	Dropped *Dropped   // how what is Blocked ends
}

// Defaults of an assertion.
const (
	DefaultInterval = time.Millisecond
	// DefaultCount is how many packets are sent if times or loss are asked for;
	// else it is one.
	DefaultCount = 100
)

// Measures says whether times or loss are asked for, which others' packets change.
func (a *Assertion) Measures() bool {
	return len(a.Latency) > 0 || len(a.RTT) > 0 || a.Loss != nil
}

// Measures says whether some assertion does.
func (s *Suite) Measures() bool {
	return slices.ContainsFunc(s.Assertions, func(a Assertion) bool { return a.Measures() })
}

// Follows says whether it takes Paths to judge a, and not answers alone.
func (a *Assertion) Follows() bool {
	return a.Blocked || len(a.Via) > 0 || a.Source.IsValid() || len(a.Latency) > 0
}

// Options returns what is to be sent, with an answer awaited for timeout.
func (a *Assertion) Options(timeout time.Duration) ping.Options {
	o := ping.Options{
		Proto: a.Proto, Dst: a.Dst, Port: a.Port, Count: a.Count, Interval: a.Interval, Size: a.Size, Timeout: timeout,
	}
	if o.Count == 0 {
		o.Count = 1
		if a.Measures() {
			o.Count = DefaultCount
		}
	}
	if o.Interval == 0 {
		o.Interval = DefaultInterval
	}
	return o.WithDefaults()
}

// Waypoint is a hop that is on the way, and what has happened to the packet there.
type Waypoint struct {
	Text    string   // as the file has it
	Node    string   // of the topology
	Device  string   // as the kernel has it, once [Suite.Fit] was called
	Way     string   // "in" or "out"; "": either
	Changes []string // snat, dnat, snat-back, dnat-back
}

// Dropped says how a packet ends. What is empty is not asked for.
type Dropped struct {
	In     string // node
	Hook   string // of netfilter
	Reason string // the kernel's, such as netfilter_drop, or the code of a conclusion
	By     string // a part of what is said of the rule, such as "table ip fw"
}

// AsksForRules says whether some assertion is about a rule or a hook of netfilter.
func (s *Suite) AsksForRules() bool {
	return slices.ContainsFunc(s.Assertions, func(a Assertion) bool {
		return a.Dropped != nil && (a.Dropped.By != "" || a.Dropped.Hook != "")
	})
}
