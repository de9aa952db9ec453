package load

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// connecting is how long a connection may take to come about.
	connecting = 3 * time.Second
	// draining is how long what was written may take to arrive.
	draining = 500 * time.Millisecond
	readSize = 128 << 10
)

// tcp runs streams. What a sender wrote and could not deliver in time is thrown
// away with the connection, and was not sent.
func (r *running) tcp(ctx context.Context, lost *losses) error {
	from, to, err := r.connect(ctx)
	defer closeAll(from)
	defer closeAll(to)
	if err != nil {
		return err
	}
	if err := lost.reset(); err != nil {
		return err
	}
	var received atomic.Uint64
	var end last
	err = r.measure(ctx, func() {
		for i, s := range to {
			r.receivers.start(i, func() error { return r.readStream(s, &received, &end) })
		}
		for i, s := range from {
			r.senders.start(i, func() error { return r.writeStream(s) })
		}
	})
	r.out.Elapsed = end.or(time.Since(r.start))
	r.out.Sent.Bytes, r.out.Received.Bytes = received.Load(), received.Load()
	return errors.Join(err, r.countSegments(from, to))
}

// writeStream writes until the load is over, and then says that this was all.
func (r *running) writeStream(s socket) error {
	buf := payload(r.Size)
	for !r.over.Load() {
		if _, err := s.writeFull(buf, r.over.Load); err != nil {
			return err
		}
	}
	return os.NewSyscallError("shutdown", unix.Shutdown(int(s), unix.SHUT_WR))
}

// readStream reads until the other side says that this was all, or for as long as
// draining may take.
func (r *running) readStream(s socket, received *atomic.Uint64, end *last) error {
	buf := make([]byte, readSize)
	var n uint64
	var at, ended time.Time
	defer func() {
		received.Add(n)
		if n > 0 {
			end.note(at.Sub(r.start))
		}
	}()
	for {
		m, err := unix.Read(int(s), buf)
		if r.over.Load() {
			at = time.Now()
			if ended.IsZero() {
				ended = at
			}
		}
		switch {
		case err == nil && m == 0:
			at = time.Now()
			return nil
		case err == nil:
			n += uint64(m)
		case !later(err):
			return os.NewSyscallError("read", err)
		}
		if !ended.IsZero() && at.Sub(ended) > draining {
			return nil
		}
	}
}

// countSegments reads the connections' own counters.
func (r *running) countSegments(from, to []socket) error {
	for _, s := range from {
		info, err := tcpInfo(s)
		if err != nil {
			return err
		}
		r.out.Sent.Packets += uint64(info.Data_segs_out)
	}
	for _, s := range to {
		info, err := tcpInfo(s)
		if err != nil {
			return err
		}
		r.out.Received.Packets += uint64(info.Data_segs_in)
	}
	return nil
}

func tcpInfo(s socket) (*unix.TCPInfo, error) {
	info, err := unix.GetsockoptTCPInfo(int(s), unix.IPPROTO_TCP, unix.TCP_INFO)
	return info, os.NewSyscallError("TCP_INFO", err)
}

// connect returns both ends of as many connections as there are flows.
func (r *running) connect(ctx context.Context) (from, to []socket, err error) {
	ln, at, err := r.listen(r.To.Addr, r.Port, r.Flows)
	if err != nil {
		return nil, nil, err
	}
	defer ln.close()
	if r.out.Congestion, err = unix.GetsockoptString(int(ln), unix.IPPROTO_TCP, unix.TCP_CONGESTION); err != nil {
		return nil, nil, os.NewSyscallError("TCP_CONGESTION", err)
	}
	for range r.Flows {
		s, err := r.dial(ctx, at)
		if err != nil {
			return from, to, err
		}
		from = append(from, s)
		peer, err := accept(ln, func() bool { return ctx.Err() != nil })
		if err != nil {
			return from, to, errors.Join(err, ctx.Err())
		}
		to = append(to, peer)
	}
	return from, to, nil
}

// listen opens a socket that takes connections to addr.
func (r *running) listen(addr netip.Addr, port uint16, backlog int) (socket, netip.AddrPort, error) {
	ln, err := openSocket(r.To, unix.SOCK_STREAM, netip.AddrPortFrom(addr, port),
		congestion(r.Congestion), number(unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
	if err != nil {
		return -1, netip.AddrPort{}, err
	}
	at, err := ln.local()
	if err == nil {
		err = os.NewSyscallError("listen", unix.Listen(int(ln), backlog))
	}
	if err != nil {
		ln.close()
		return -1, at, err
	}
	return ln, at, nil
}

// dial opens a connection that keeps to its part of the rate.
func (r *running) dial(ctx context.Context, to netip.AddrPort) (socket, error) {
	set := []option{congestion(r.Congestion), number(unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)}
	if r.Bits > 0 {
		each := uint64(max(1, r.Bits/8/float64(r.Flows)))
		set = append(set, func(s socket) error {
			return os.NewSyscallError("SO_MAX_PACING_RATE", unix.SetsockoptUint64(int(s), unix.SOL_SOCKET, unix.SO_MAX_PACING_RATE, each))
		})
	}
	s, err := openSocket(r.From, unix.SOCK_STREAM, netip.AddrPortFrom(anyAddr(r.From.Addr, r.ipv6()), 0), set...)
	if err != nil {
		return -1, err
	}
	deadline := time.Now().Add(connecting)
	for {
		err := unix.Connect(int(s), sockaddr(to))
		switch {
		case err == nil, err == unix.EISCONN:
			return s, nil
		case later(err) && ctx.Err() != nil:
			s.close()
			return -1, ctx.Err()
		case !later(err):
			s.close()
			return -1, fmt.Errorf("connect to %s: %w", to, err)
		case time.Now().After(deadline):
			s.close()
			return -1, fmt.Errorf("connect to %s: %w (nobody answered within %s; does a route lead there and back?)", to, unix.ETIMEDOUT, connecting)
		}
	}
}

// accept waits for a connection until done says that there is no use in it.
func accept(ln socket, done func() bool) (socket, error) {
	for {
		fd, _, err := unix.Accept4(int(ln), unix.SOCK_CLOEXEC)
		switch {
		case err == nil:
			s := socket(fd)
			tv := unix.NsecToTimeval(int64(patience))
			err := errors.Join(
				unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv),
				unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv),
				unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
			if err != nil {
				s.close()
				return -1, os.NewSyscallError("setsockopt", err)
			}
			return s, nil
		case !later(err) && err != unix.ECONNABORTED:
			return -1, os.NewSyscallError("accept", err)
		case done():
			return -1, errDone
		}
	}
}

// errDone says that the load was over before a connection came.
var errDone = errors.New("no connection came")

func closeAll(all []socket) {
	for _, s := range all {
		s.reset()
	}
}
