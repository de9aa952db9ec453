// Package hop holds the words that every room shares: where packets are looked
// at, and which of these places follow each other. It depends on nothing.
package hop

import (
	"fmt"
	"strings"
)

// ID numbers the hops of one lab from 0. It is the index into the BPF maps.
type ID uint16

// None is the ID of no hop: of a packet that was seen elsewhere.
const None ID = 1<<16 - 1

// Direction is the way a packet passes a device, as seen by the device's
// namespace.
type Direction uint8

const (
	Ingress Direction = iota // into the namespace
	Egress                   // out of it
)

// String returns "ingress" or "egress", as JSON has it.
func (d Direction) String() string {
	if d == Egress {
		return "egress"
	}
	return "ingress"
}

// Short returns "in" or "out", as tables and expressions have it.
func (d Direction) Short() string {
	if d == Egress {
		return "out"
	}
	return "in"
}

// MarshalText implements [encoding.TextMarshaler] with [Direction.String].
func (d Direction) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler]; it takes both forms.
func (d *Direction) UnmarshalText(b []byte) error {
	switch string(b) {
	case "ingress", "in":
		*d = Ingress
	case "egress", "out":
		*d = Egress
	default:
		return fmt.Errorf("direction %q (want in or out)", b)
	}
	return nil
}

// Layer is how early on a device a hop looks.
type Layer uint8

const (
	TC  Layer = iota // tcx or clsact: ingress and egress, sees skbs
	XDP              // before the skb: ingress only
)

// String returns "tc" or "xdp".
func (l Layer) String() string {
	if l == XDP {
		return "xdp"
	}
	return "tc"
}

// MarshalText implements [encoding.TextMarshaler].
func (l Layer) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (l *Layer) UnmarshalText(b []byte) error {
	switch string(b) {
	case "tc":
		*l = TC
	case "xdp":
		*l = XDP
	default:
		return fmt.Errorf("layer %q (want tc or xdp)", b)
	}
	return nil
}

// Kind is what sort of device a hop stands at; it says what may come next.
type Kind uint8

const (
	End    Kind = iota // a veth end that is no bridge port
	Port               // a veth end that is a bridge port
	Bridge             // the bridge device itself
	Uplink             // the way out of the lab
)

var kindNames = [...]string{"end", "port", "bridge", "uplink"}

// String returns the kind's name in lower case.
func (k Kind) String() string { return kindNames[k] }

// MarshalText implements [encoding.TextMarshaler].
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (k *Kind) UnmarshalText(b []byte) error {
	for i, n := range kindNames {
		if n == string(b) {
			*k = Kind(i)
			return nil
		}
	}
	return fmt.Errorf("hop kind %q (want one of %s)", b, strings.Join(kindNames[:], ", "))
}

// Hop is a device in a namespace and a direction: where we look.
type Hop struct {
	ID        ID        `json:"id"`
	Node      string    `json:"node"`   // as the topology names it
	Device    string    `json:"device"` // as the kernel names it
	Direction Direction `json:"direction"`
	Layer     Layer     `json:"layer"`
	Kind      Kind      `json:"kind"`
}

// String returns "node:device in", "node:device out" or "node:device in xdp".
func (h Hop) String() string {
	s := h.Place() + " " + h.Direction.Short()
	if h.Layer == XDP {
		s += " xdp"
	}
	return s
}

// Place returns "node:device".
func (h Hop) Place() string { return h.Node + ":" + h.Device }

// Edge joins two hops that a packet can pass one after the other with no
// further hop between them.
type Edge struct {
	From ID `json:"from"`
	To   ID `json:"to"`
	// Wire says that the edge is a veth pair: every segment that leaves From
	// arrives at To unless it is lost between them, so the two can be compared.
	// Other edges run through a bridge or a node's stack, where packets are
	// copied, made and consumed.
	Wire bool `json:"wire"`
}
