package load

import (
	"context"
	"errors"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// listeners is how many ports a server of CRR takes connections at, so that a
// client has as many times as many to choose from before one is used again.
const listeners = 16

// crr runs clients that each connect, ask, are answered and close, again and again.
func (r *running) crr(ctx context.Context, lost *losses) error {
	var lns []socket
	defer func() {
		for _, ln := range lns {
			ln.close()
		}
	}()
	var at []netip.AddrPort
	n := listeners
	if r.Port != 0 {
		n = 1
	}
	for range n {
		ln, addr, err := r.listen(r.To.Addr, r.Port, 4096)
		if err != nil {
			return err
		}
		lns, at = append(lns, ln), append(at, addr)
	}
	var err error
	if r.out.Congestion, err = unix.GetsockoptString(int(lns[0]), unix.IPPROTO_TCP, unix.TCP_CONGESTION); err != nil {
		return os.NewSyscallError("TCP_CONGESTION", err)
	}
	if err := lost.reset(); err != nil {
		return err
	}
	t := newTransactions()
	// The clients are in From's namespace, where they open sockets.
	if r.From.Netns != nil {
		r.senders.ns = r.From.Netns
	}
	err = r.measure(ctx, func() {
		for i := range max(r.Flows, r.Threads) {
			r.receivers.start(i, func() error { return r.serve(lns, i) })
		}
		for i := range r.Flows {
			r.senders.start(i, func() error {
				buf, turn := make([]byte, r.Size), i
				return r.clients(t, func() (bool, error) {
					turn++
					return r.transact(at[turn%len(at)], buf)
				})
			})
		}
	})
	t.report(r)
	return err
}

// serve takes connections of all listeners, from the nth on, answers each and closes it.
func (r *running) serve(lns []socket, nth int) error {
	polled := make([]unix.PollFd, len(lns))
	for i, ln := range lns {
		polled[i] = unix.PollFd{Fd: int32(ln), Events: unix.POLLIN}
		if err := unix.SetNonblock(int(ln), true); err != nil {
			return os.NewSyscallError("fcntl", err)
		}
	}
	buf := make([]byte, r.Size)
	for !r.sent.Load() {
		if _, err := unix.Poll(polled, int(patience.Milliseconds())); err != nil && !later(err) {
			return os.NewSyscallError("poll", err)
		}
		for i := range polled {
			ln := polled[(i+nth)%len(polled)]
			if ln.Revents == 0 {
				continue
			}
			s, err := accept(socket(ln.Fd), func() bool { return true })
			if errors.Is(err, errDone) {
				continue // another thread was faster
			}
			if err != nil {
				return err
			}
			if err := r.answerOne(s, buf); err != nil {
				return err
			}
		}
	}
	return nil
}

// answerOne answers a request and closes the connection, or leaves that to the
// client if it resets it.
func (r *running) answerOne(s socket, buf []byte) error {
	defer s.close()
	ok, err := s.readFull(buf, r.sent.Load)
	if ok {
		ok, err = s.writeFull(buf, r.sent.Load)
	}
	if ok && r.Reset {
		_, err = s.readFull(buf[:1], r.sent.Load)
	}
	if errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE) {
		return nil
	}
	return err
}

// transact is one connection, from the calling thread's namespace.
func (r *running) transact(to netip.AddrPort, buf []byte) (bool, error) {
	addr := anyAddr(r.From.Addr, r.ipv6())
	s, err := newSocket(unix.SOCK_STREAM, netip.AddrPortFrom(addr, 0), congestion(r.Congestion),
		number(unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1), number(unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
	if err != nil {
		return false, err
	}
	if ok, err := r.exchange(s, to, buf); !ok {
		s.reset()
		return false, err
	}
	if r.Reset {
		s.reset()
		return true, nil
	}
	// The server closes first: it is the side that has to wait (RFC 9293, 3.6).
	_, err = s.readFull(buf[:1], r.over.Load)
	s.close()
	return err == nil, err
}

func (r *running) exchange(s socket, to netip.AddrPort, buf []byte) (bool, error) {
	for {
		err := unix.Connect(int(s), sockaddr(to))
		if err == nil || err == unix.EISCONN {
			break
		}
		if !later(err) {
			return false, os.NewSyscallError("connect", err)
		}
		if r.over.Load() {
			return false, nil
		}
	}
	ok, err := s.writeFull(buf, r.over.Load)
	if ok {
		ok, err = s.readFull(buf, r.over.Load)
	}
	return ok, err
}
