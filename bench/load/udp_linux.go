package load

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	burst       = 64        // datagrams a system call
	maxDatagram = 65507     // of UDP over IPv4
	maxSegments = 64        // that GSO cuts out of one, on every kernel
	receiveRoom = 256 << 10 // of a socket, in bytes
	// idle is how long nothing may come after the last was sent, before what is
	// missing is lost.
	idle = 100 * time.Millisecond
)

// udp runs datagrams between sockets.
func (r *running) udp(ctx context.Context, lost *losses) error {
	to, at, err := r.openReceivers()
	defer closeAll(to)
	if err != nil {
		return err
	}
	from, err := r.openSenders(at)
	defer closeAll(from)
	if err != nil {
		return err
	}
	if err := lost.reset(); err != nil {
		return err
	}
	c := &counters{overhead: uint64(headers(r.ipv6()))}
	err = r.measure(ctx, func() {
		for i, s := range to {
			r.receivers.start(i, func() error { return r.receive(s, c) })
		}
		for i := range r.Threads {
			var mine []socket
			for k := i; k < len(from); k += r.Threads {
				mine = append(mine, from[k])
			}
			r.senders.start(i, func() error { return r.send(mine, c) })
		}
	})
	r.out.Elapsed = c.end.or(time.Since(r.start))
	r.out.Sent, r.out.Received = c.sent.load(), c.received.load()
	r.out.Refused = c.refused.Load()
	if err != nil || lost.coll != nil {
		return err
	}
	return r.countSockets(to)
}

// countSockets enters what the sockets had no room for, where the kernel does not
// say what it drops.
func (r *running) countSockets(to []socket) error {
	for _, s := range to {
		n, err := s.drops()
		if err != nil {
			return err
		}
		if n > 0 {
			r.out.Lost = append(r.out.Lost, Loss{Place: "socket", Node: r.To.Node, Packets: n})
		}
	}
	return nil
}

// counters are what the threads of a load count together.
type counters struct {
	sent, received atomicTally
	refused        atomic.Uint64
	end            last
	overhead       uint64 // bytes of headers in front of a message
}

type atomicTally struct{ packets, bytes atomic.Uint64 }

func (t *atomicTally) add(packets, bytes uint64) {
	t.packets.Add(packets)
	t.bytes.Add(bytes)
}

func (t *atomicTally) load() Tally { return Tally{t.packets.Load(), t.bytes.Load()} }

// openReceivers opens a socket for each thread, which share the flows among them.
func (r *running) openReceivers() (to []socket, at netip.AddrPort, err error) {
	at = netip.AddrPortFrom(r.To.Addr, r.Port)
	for range r.Threads {
		set := []option{number(unix.SOL_SOCKET, unix.SO_RCVBUF, receiveRoom), number(unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)}
		if r.GSO {
			set = append(set, number(unix.IPPROTO_UDP, unix.UDP_GRO, 1))
		}
		s, err := openSocket(r.To, unix.SOCK_DGRAM, at, set...)
		if err != nil {
			return to, at, err
		}
		to = append(to, s)
		if at, err = s.local(); err != nil { // the others take the same port
			return to, at, err
		}
	}
	return to, at, nil
}

// openSenders opens a connected socket for each flow.
func (r *running) openSenders(at netip.AddrPort) (from []socket, err error) {
	segment := r.Size - headers(r.ipv6())
	for range r.Flows {
		var set []option
		if r.GSO {
			set = append(set, number(unix.IPPROTO_UDP, unix.UDP_SEGMENT, segment))
		}
		s, err := openSocket(r.From, unix.SOCK_DGRAM, netip.AddrPortFrom(anyAddr(r.From.Addr, r.ipv6()), 0), set...)
		if err != nil {
			return from, err
		}
		from = append(from, s)
		if err := unix.Connect(int(s), sockaddr(at)); err != nil {
			return from, fmt.Errorf("connect to %s: %w (does a route lead there?)", at, err)
		}
	}
	return from, nil
}

// send sends by each of the sockets in turn until the load is over.
func (r *running) send(from []socket, c *counters) error {
	out, packets := r.outgoing()
	pace := newPace(r.packetRate()/float64(r.Threads), r.over.Load)
	var n, bytes uint64
	defer func() { c.sent.add(n, bytes) }()
	for i := 0; !r.over.Load(); i++ {
		most := (pace.wait(len(out)*packets) + packets - 1) / packets
		if most == 0 {
			break // over, while it waited
		}
		done, err := from[i%len(from)].sendBatch(out[:min(most, len(out))])
		for _, m := range out[:done] {
			n += uint64(packets)
			bytes += uint64(m.length) + uint64(packets)*c.overhead
		}
		pace.sent(done * packets)
		switch {
		case err == nil, later(err), err == unix.ECONNREFUSED: // that one before was not taken
		case err == unix.ENOBUFS:
			c.refused.Add(uint64(packets))
		case err == unix.EPERM: // dropped by netfilter here
			n += uint64(packets)
			bytes += uint64(r.Size * packets)
			pace.sent(packets)
		default:
			return os.NewSyscallError("sendmmsg", err)
		}
	}
	return nil
}

// outgoing returns the messages of a batch, and how many packets each becomes.
func (r *running) outgoing() (out []message, packets int) {
	packets = 1
	if r.GSO {
		packets = min(maxSegments, maxDatagram/r.Size)
	}
	n := max(1, burst/packets)
	sizes := r.sizes()
	if r.IMIX {
		n = burst / len(sizes) * len(sizes)
	}
	out = make([]message, n)
	for i := range out {
		out[i].use(payload((sizes[i%len(sizes)] - headers(r.ipv6())) * packets))
	}
	return out, packets
}

// receive counts datagrams until none come any more.
func (r *running) receive(s socket, c *counters) error {
	size, in := 2048, make([]message, burst)
	if r.GSO {
		size = 1 << 16
	}
	for i := range in {
		in[i].use(make([]byte, size))
	}
	segment := uint64(r.Size) - c.overhead
	var n, bytes uint64
	at := time.Now()
	defer func() { c.received.add(n, bytes+n*c.overhead) }()
	for {
		got, err := s.receiveBatch(in)
		if err != nil && !later(err) {
			return os.NewSyscallError("recvmmsg", err)
		}
		if got > 0 {
			at = time.Now()
			c.end.note(at.Sub(r.start))
		} else if r.sent.Load() && time.Since(at) > idle {
			return nil
		}
		for _, m := range in[:max(got, 0)] {
			bytes += uint64(m.length)
			if r.GSO { // GRO has put them together
				n += (uint64(m.length) + segment - 1) / segment
			} else {
				n++
			}
		}
	}
}

// message is struct mmsghdr.
type message struct {
	header unix.Msghdr
	length uint32
}

// use gives m the memory that it is in.
func (m *message) use(b []byte) {
	m.header.Iov = &unix.Iovec{Base: &b[0]}
	m.header.Iov.SetLen(len(b))
	m.header.SetIovlen(1)
}

// sendBatch returns how many messages were sent, and why not the next.
func (s socket) sendBatch(ms []message) (int, error) {
	n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(s), uintptr(unsafe.Pointer(&ms[0])), uintptr(len(ms)), unix.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// receiveBatch waits for a message and takes what there is with it.
func (s socket) receiveBatch(ms []message) (int, error) {
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(s), uintptr(unsafe.Pointer(&ms[0])), uintptr(len(ms)), unix.MSG_WAITFORONE, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
