package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/nsbpf/nsbpf/internal/netns"
)

// flow is where a series of probes goes: UDP, or echo requests, whose replies
// are probes too.
type flow struct {
	echo  bool
	port  uint16 // the source port, or the echo's id; the same in several flows
	to    netip.Addr
	route []string // the hops, in their order
	ends  string   // the hop where a filter drops them
}

func (f *flow) String() string {
	kind := "udp"
	if f.echo {
		kind = "echo"
	}
	s := fmt.Sprintf("%s %s > %s", kind, f.from(), f.to)
	if f.ends != "" {
		s += ", dropped"
	}
	return s
}

func (f *flow) from() string { return node(f.route[0]) }

// node returns that of a hop.
func node(hop string) string { return hop[:strings.Index(hop, ":")] }

// wayBack returns the hops of the replies.
func wayBack(route []string) []string {
	back := make([]string, len(route))
	for i, h := range route {
		place, direction, _ := strings.Cut(h, " ")
		direction = map[string]string{"in": "out", "out": "in"}[direction]
		back[len(route)-1-i] = place + " " + direction
	}
	return back
}

// probePort is where probes by UDP are received.
const probePort = 9000

// probeSize is the length of the payload: what the trace hashes of it, and some
// more, so that probes are not all of one length.
func probeSize(id uint64) int { return 32 + int(id%7)*200 }

// payload returns the id, again and again, behind a beginning that all have.
func payload(id uint64) []byte {
	b := make([]byte, probeSize(id))
	for i := idAt; i < len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], id)
	}
	return b
}

// idAt is where a payload has its id.
const idAt = 8

// payloadHash is the hash of a probe's payload as the programs make it.
func payloadHash(id uint64) uint32 {
	const prime = 16777619
	h := uint32(2166136261)
	h = h * prime * prime // words that are 0
	for range 3 {
		h = (h ^ uint32(id)) * prime
		h = (h ^ uint32(id>>32)) * prime
	}
	return h
}

// ids gives ids whose payloads have hashes that no other's has.
type ids struct {
	last   uint64
	hashes map[uint32]bool
}

func (s *ids) next() uint64 {
	for {
		s.last += 0x1_0000_0001 // both halves change
		if h := payloadHash(s.last); !s.hashes[h] {
			s.hashes[h] = true
			return s.last
		}
	}
}

// pace is the time between two probes of a flow; flatOut is without one.
type pace time.Duration

const flatOut pace = 0

// sendProbes sends a probe of each id by f from ns.
func sendProbes(ns *os.File, f *flow, ids []uint64, p pace) error {
	conn, err := probeSocket(ns, f)
	if err != nil {
		return err
	}
	defer conn.Close()
	to := net.Addr(&net.IPAddr{IP: f.to.AsSlice()})
	if !f.echo {
		to = net.UDPAddrFromAddrPort(netip.AddrPortFrom(f.to, probePort))
	}
	var clock <-chan time.Time
	if p != flatOut {
		t := time.NewTicker(time.Duration(p))
		defer t.Stop()
		clock = t.C
	}
	for i, id := range ids {
		if clock != nil {
			<-clock
		}
		b := payload(id)
		if f.echo {
			if b, err = echoRequest(f, i, b); err != nil {
				return err
			}
		}
		if _, err := conn.WriteTo(b, to); err != nil && !errors.Is(err, unix.ENOBUFS) {
			return fmt.Errorf("sending %s: %w", f, err)
		}
	}
	return nil
}

// probeSocket opens the socket that f is sent by.
func probeSocket(ns *os.File, f *flow) (conn net.PacketConn, err error) {
	network, local := "udp4", fmt.Sprintf(":%d", f.port)
	switch {
	case f.echo && f.to.Is4():
		network, local = "ip4:icmp", ""
	case f.echo:
		network, local = "ip6:ipv6-icmp", ""
	case f.to.Is6():
		network = "udp6"
	}
	err = netns.Do(ns, func() error {
		conn, err = net.ListenPacket(network, local)
		return err
	})
	if f.echo && err == nil {
		err = keepOnly(conn) // nothing: replies are not read here
	}
	return conn, err
}

func echoRequest(f *flow, seq int, payload []byte) ([]byte, error) {
	m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: int(f.port), Seq: seq & 0xffff, Data: payload}}
	if f.to.Is6() {
		m.Type = ipv6.ICMPTypeEchoRequest // the kernel adds the checksum
	}
	return m.Marshal(nil)
}

// keepOnly lets a raw ICMP socket receive those types and no other.
func keepOnly(conn net.PacketConn, types ...icmp.Type) error {
	if conn.LocalAddr().(*net.IPAddr).IP.To4() == nil {
		var f ipv6.ICMPFilter
		f.SetAll(true)
		for _, t := range types {
			f.Accept(t.(ipv6.ICMPType))
		}
		return ipv6.NewPacketConn(conn).SetICMPFilter(&f)
	}
	var f ipv4.ICMPFilter
	f.SetAll(true)
	for _, t := range types {
		f.Accept(t.(ipv4.ICMPType))
	}
	return ipv4.NewPacketConn(conn).SetICMPFilter(&f)
}

// sink is a socket that receives probes.
type sink struct {
	conn     net.PacketConn
	raw      syscall.RawConn
	network  string
	requests []uint64 // ids, also of UDP
	replies  []uint64
	done     chan struct{} // nil: nobody listens
}

// openSinks opens the sockets of a node, with so much room in bytes.
func openSinks(ns *os.File, room int) (sinks []*sink, err error) {
	err = netns.Do(ns, func() error {
		for _, network := range []string{"udp", "ip4:icmp", "ip6:ipv6-icmp"} {
			local := ""
			if network == "udp" {
				local = fmt.Sprintf(":%d", probePort)
			}
			conn, err := net.ListenPacket(network, local)
			if err != nil {
				return err
			}
			s := &sink{conn: conn, network: network}
			sinks = append(sinks, s)
			if err := s.prepare(room); err != nil {
				return fmt.Errorf("preparing a socket %s: %w", network, err)
			}
		}
		return nil
	})
	return sinks, err
}

func (s *sink) prepare(room int) (err error) {
	switch s.network {
	case "ip4:icmp":
		err = keepOnly(s.conn, ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply)
	case "ip6:ipv6-icmp":
		err = keepOnly(s.conn, ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply)
	}
	if err != nil {
		return err
	}
	if s.raw, err = s.conn.(syscall.Conn).SyscallConn(); err != nil {
		return err
	}
	var failed error
	err = s.raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room)
	})
	return errors.Join(err, failed)
}

// listen receives until close.
func (s *sink) listen() {
	s.done = make(chan struct{})
	go func() {
		defer close(s.done)
		_ = s.raw.Read(func(fd uintptr) bool { s.drain(fd); return false }) // ends at the deadline
	}()
}

// close takes what is in the socket, and closes it.
func (s *sink) close() error {
	err := s.conn.SetReadDeadline(time.Now())
	if s.done != nil {
		<-s.done
	}
	return errors.Join(err, s.raw.Control(s.drain), s.conn.Close())
}

func (s *sink) drain(fd uintptr) {
	buf := make([]byte, 2048)
	for {
		n, _, err := unix.Recvfrom(int(fd), buf, unix.MSG_DONTWAIT)
		if err != nil {
			return
		}
		s.take(buf[:n])
	}
}

func (s *sink) take(b []byte) {
	reply := false
	switch s.network {
	case "ip4:icmp":
		b = b[4*(b[0]&15):] // the kernel gives the IPv4 header, too
		reply, b = b[0] == byte(ipv4.ICMPTypeEchoReply), b[8:]
	case "ip6:ipv6-icmp":
		reply, b = b[0] == byte(ipv6.ICMPTypeEchoReply), b[8:]
	}
	if len(b) < idAt+8 {
		return
	}
	id := binary.LittleEndian.Uint64(b[idAt:])
	if reply {
		s.replies = append(s.replies, id)
	} else {
		s.requests = append(s.requests, id)
	}
}
