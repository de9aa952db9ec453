package trace

import (
	"strings"

	"github.com/nsbpf/nsbpf/collector"
)

// Change is a set of what became different on the way from one step to the next.
type Change uint8

const (
	SNAT     Change = 1 << iota // the source, by address or port
	DNAT                        // the destination
	SNATBack                    // the destination of a reply, back to what it was before SNAT
	DNATBack                    // the source of a reply, back to what it was before DNAT
	EchoID                      // the id of an echo
	TTL                         // or hop limit
)

// Readdressed says whether addresses, ports or the echo's id changed.
func (c Change) Readdressed() bool { return c&^TTL != 0 }

// Words returns the translations by name: snat, dnat, snat-back, dnat-back.
func (c Change) Words() []string {
	var words []string
	for i, w := range [...]string{"snat", "dnat", "snat-back", "dnat-back"} {
		if c&(1<<i) != 0 {
			words = append(words, w)
		}
	}
	return words
}

// String returns the words, separated by spaces.
func (c Change) String() string { return strings.Join(c.Words(), " ") }

// changes returns what is different at to, against from. Which way a connection
// was translated is known only where conntrack's tuple came with the packet;
// elsewhere a new source is SNAT and a new destination is DNAT. A fragment has
// no ports and no id that could have changed.
func changes(from, to *collector.Sighting) Change {
	var c Change
	p, q, o := &from.Packet, &to.Packet, &to.Orig
	reply := p.Src != o.Src || p.Dst != o.Dst
	ported := from.HasPorts() && to.HasPorts()
	if p.Src != q.Src || ported && p.Sport != q.Sport {
		c |= SNAT
		if reply && o.Status&collector.ConnDNAT != 0 && q.Src == o.Dst {
			c ^= SNAT | DNATBack
		}
	}
	if p.Dst != q.Dst || ported && p.Dport != q.Dport {
		c |= DNAT
		if reply && o.Status&collector.ConnSNAT != 0 && q.Dst == o.Src {
			c ^= DNAT | SNATBack
		}
	}
	if p.ICMPID != q.ICMPID && from.IsEcho() && to.IsEcho() {
		c |= EchoID
	}
	if p.TTL != q.TTL {
		c |= TTL
	}
	return c
}
