package ping

import (
	"net/netip"
	"time"
)

// Key is what a probe's packet shows in the node that sends it, and what an ICMP
// error quotes of it.
type Key struct {
	Proto    Proto
	Src, Dst netip.Addr
	ID       uint16 // of an echo
	Sport    uint16 // of UDP and TCP
	Dport    uint16
	Seq      uint32 // of an echo, or TCP's sequence number
}

// Probe is one packet that was sent, and what became of it.
type Probe struct {
	Number int // from 1
	Key    Key
	Sent   time.Time
	Err    error   // it could not be sent; nil if it was
	Answer *Answer // nil: none came within the timeout
}

// Kind is what sort of answer came.
type Kind uint8

const (
	EchoReply Kind = iota + 1
	Datagram       // of UDP
	SYNACK         // the port is open
	RST            // the port is closed
	ICMPError      // that quotes the probe
)

// String returns the kind as JSON has it.
func (k Kind) String() string {
	return [...]string{"", "echo-reply", "datagram", "syn-ack", "rst", "icmp-error"}[k]
}

// Answer is what came back for a probe.
type Answer struct {
	Kind     Kind
	From     netip.Addr
	Received time.Time
	RTT      time.Duration
	// Type and Code are those of an ICMP error, of its family.
	Type, Code uint8
	// MTU is what an ICMP error says would have fitted, if it does.
	MTU int
}

// Reached says whether the answer shows that the probe came to its destination:
// everything but an ICMP error does, and so does one about the port.
func (a *Answer) Reached(to netip.Addr) bool {
	if a.Kind != ICMPError {
		return true
	}
	port := a.Type == icmpUnreachable && a.Code == 3
	if to.Is6() {
		port = a.Type == icmp6Unreachable && a.Code == 4
	}
	return port && a.From == to
}
