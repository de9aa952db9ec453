package load

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/nsbpf/nsbpf/bpf"
)

// Mode is a way to load a path.
type Mode string

const (
	TCP Mode = "tcp" // streams
	UDP Mode = "udp" // datagrams, by sockets
	RR  Mode = "rr"  // requests and responses, one outstanding a flow
	CRR Mode = "crr" // the same with a TCP connection for each
	PPS Mode = "pps" // frames that a program puts out of a veth end
	SKB Mode = "skb" // frames that a program gives to the stack at a device
)

// Modes are all modes in the order in which they are documented.
var Modes = []Mode{TCP, UDP, RR, CRR, PPS, SKB}

// Place is where a path begins, ends, or passes.
type Place struct {
	Node   string   // as messages name it
	Netns  *os.File // nil: the caller's
	Device string   // of PPS and SKB
	Addr   netip.Addr
}

// String returns "node:device", or the node where no device is named.
func (p Place) String() string {
	if p.Device == "" {
		return p.Node
	}
	return p.Node + ":" + p.Device
}

// Spec says what load is put on which path. What is zero is chosen.
type Spec struct {
	Mode Mode
	From Place
	// To is where the load ends. The family of its address is that of the load.
	To Place
	// Via are the places between, in their order. What is lost in their namespaces
	// is named. Frames of PPS come into the first of them, and those of SKB go up
	// there; without any, at To.
	Via []Place

	// Size is the length of a frame of UDP, PPS and SKB, with the Ethernet header
	// and without the checksum, as `ip -s link` counts (64); of a write of TCP
	// (131072); of a request and of a response (1, over UDP 16).
	Size int
	// IMIX sends frames of 64, 594 and 1514 bytes, seven, four and one of twelve.
	IMIX    bool
	Flows   int // streams, source ports or clients (1)
	Threads int // on each side, that share the flows (1)
	// CPUs are those of the senders' threads, and then those of the receivers', in
	// turn. Without any, the process's own are used, in their order.
	CPUs []int
	// Rate is packets or transactions a second, and Bits the bits of frames, of TCP
	// of payload, that all flows send together. If neither is set they send as fast
	// as it goes.
	Rate, Bits float64
	Duration   time.Duration // (1s)
	GSO        bool          // of UDP: the kernel cuts large datagrams into frames
	OverUDP    bool          // of RR
	Port       uint16        // that is sent to; 0: one that is free, of PPS and SKB 9
	Congestion string        // TCP's congestion control (cubic)
	// Reset ends connections of CRR by a reset, so that neither side keeps any in
	// mind. Else the server closes first, and they wait there.
	Reset bool
}

// Bounds of a [Spec].
const (
	MinFrame = bpf.FrameHead
	MaxFrame = 1514
	maxFlows = 16 << 10
	// Each of these flows has threads of its own.
	maxThreaded = 256
	maxMessage  = 16 << 20
	discard     = 9 // the port of RFC 863
)

// ipv6 reports whether the load is one of IPv6.
func (s Spec) ipv6() bool { return s.To.Addr.Is6() && !s.To.Addr.Is4In6() }

// frames reports whether a program makes them.
func (s Spec) frames() bool { return s.Mode == PPS || s.Mode == SKB }

// Check returns s with what was chosen for its zero values, or all that is wrong
// with it.
func (s Spec) Check() (Spec, error) {
	if !slices.Contains(Modes, s.Mode) {
		return s, fmt.Errorf("mode %q does not exist (want one of %s)", s.Mode, modeNames())
	}
	s = s.withDefaults()
	var errs []error
	wrong := func(is bool, format string, args ...any) {
		if is {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	wrong(!s.To.Addr.IsValid() && s.Mode != PPS, "mode %s needs the address that %s is to be reached at", s.Mode, s.To)
	wrong(s.From.Addr.IsValid() && s.To.Addr.IsValid() && s.From.Addr.Is4() == s.ipv6(),
		"the addresses %s and %s are of two families (want both IPv4 or both IPv6)", s.From.Addr, s.To.Addr)
	wrong(s.Duration <= 0, "duration %s is nothing (want such as 1s)", s.Duration)
	wrong(s.Rate < 0 || s.Bits < 0, "a rate below 0 (want 0, as fast as it goes, or more)")
	wrong(s.Rate > 0 && s.Bits > 0, "a rate in packets and one in bits (want one of them)")
	wrong(s.Rate > 0 && s.Mode == TCP, "TCP makes packets as it likes (write the rate in bits a second, such as 100mbit)")
	wrong(s.Bits > 0 && (s.Mode == RR || s.Mode == CRR), "mode %s has no bits a second (write the rate in transactions a second)", s.Mode)
	wrong(s.IMIX && s.Mode != UDP && !s.frames(), "mode %s has no frames to mix (IMIX is for udp, pps and skb)", s.Mode)
	wrong(s.GSO && s.Mode != UDP, "GSO is an option of mode udp, not of %s", s.Mode)
	wrong(s.GSO && s.IMIX, "GSO cuts datagrams into frames of one size (leave out IMIX)")
	wrong(s.OverUDP && s.Mode != RR, "mode %s is not to be had over UDP (want rr)", s.Mode)
	wrong(s.Reset && s.Mode != CRR, "mode %s makes no connections to reset (want crr)", s.Mode)
	errs = append(errs, s.checkSize(), s.checkFlows(), s.checkDevices())
	return s, errors.Join(errs...)
}

func (s Spec) withDefaults() Spec {
	size, port := MinFrame, uint16(0)
	switch {
	case s.Mode == TCP:
		size = 128 << 10
	case s.Mode == RR && s.OverUDP:
		size = 16
	case s.Mode == RR, s.Mode == CRR:
		size = 1
	case s.frames():
		port = discard
	}
	s.Size, s.Port = or(s.Size, size), or(s.Port, port)
	s.Flows, s.Threads = or(s.Flows, 1), or(s.Threads, 1)
	s.Duration, s.Congestion = or(s.Duration, time.Second), or(s.Congestion, "cubic")
	if s.Mode == PPS && !s.To.Addr.IsValid() { // RFC 2544's own network
		s.From.Addr, s.To.Addr = netip.AddrFrom4([4]byte{198, 18, 0, 1}), netip.AddrFrom4([4]byte{198, 19, 0, 1})
	}
	s.To.Addr, s.From.Addr = s.To.Addr.Unmap(), s.From.Addr.Unmap()
	return s
}

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

func (s Spec) checkSize() error {
	low, high, what := 1, maxMessage, "message"
	switch {
	case s.Mode == UDP, s.frames():
		low, high, what = MinFrame, MaxFrame, "frame"
	case s.OverUDP:
		low, high, what = sequenceLen, maxDatagram, "datagram"
	}
	if s.Size < low || s.Size > high {
		return fmt.Errorf("a %s of %d bytes (mode %s has those of %d to %d)", what, s.Size, s.Mode, low, high)
	}
	return nil
}

func (s Spec) checkFlows() error {
	most := maxThreaded
	if s.Mode == UDP || s.frames() {
		most = maxFlows
	}
	switch {
	case s.Flows < 1 || s.Flows > most:
		return fmt.Errorf("%d flows (mode %s has 1 to %d)", s.Flows, s.Mode, most)
	case s.Threads < 1 || s.Threads > maxThreaded:
		return fmt.Errorf("%d threads (want 1 to %d)", s.Threads, maxThreaded)
	case s.Threads > s.Flows && !s.frames():
		return fmt.Errorf("%d threads for %d flows (want a flow or more for each thread)", s.Threads, s.Flows)
	}
	for _, cpu := range s.CPUs {
		if cpu < 0 {
			return fmt.Errorf("CPU %d does not exist (want 0 or more)", cpu)
		}
	}
	return nil
}

func (s Spec) checkDevices() error {
	if !s.frames() {
		return nil
	}
	var errs []error
	if s.Mode == PPS && s.From.Device == "" {
		errs = append(errs, fmt.Errorf("mode pps needs the veth end of %s that frames are put out of", s.From))
	}
	for _, p := range append(slices.Clone(s.Via), s.To) {
		if p.Device == "" {
			errs = append(errs, fmt.Errorf("mode %s needs the device of %s", s.Mode, p))
		}
	}
	return errors.Join(errs...)
}

func modeNames() string {
	names := make([]string, len(Modes))
	for i, m := range Modes {
		names[i] = string(m)
	}
	return strings.Join(names, ", ")
}

// packetRate returns the packets a second that s asks for, 0 for as fast as it goes.
func (s Spec) packetRate() float64 {
	if s.Bits == 0 {
		return s.Rate
	}
	sizes := s.sizes()
	sum := 0
	for _, n := range sizes {
		sum += n
	}
	return s.Bits * float64(len(sizes)) / (8 * float64(sum))
}

// sizes returns the lengths of s's frames, in turn.
func (s Spec) sizes() []int {
	if s.IMIX {
		return []int{64, 594, 64, 64, 594, 64, 1514, 64, 594, 64, 64, 594}
	}
	return []int{s.Size}
}
