package load

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/nsbpf/nsbpf/internal/netns"
)

// patience is how long a call on a socket waits before its thread looks whether
// the load is over.
const patience = 20 * time.Millisecond

// socket is a blocking socket. The runtime of Go does not know of it, so that a
// thread waits in the kernel as that of a program in C does.
type socket int

// openSocket opens a socket in p's namespace that is bound to addr. Its calls give
// up with EAGAIN after [patience].
func openSocket(p Place, kind int, addr netip.AddrPort, set ...option) (s socket, err error) {
	err = netns.Do(p.Netns, func() error {
		s, err = newSocket(kind, addr, set...)
		return err
	})
	if err != nil {
		return -1, fmt.Errorf("open a socket in %s: %w", p.Node, err)
	}
	return s, nil
}

// newSocket is openSocket in the caller's namespace.
func newSocket(kind int, addr netip.AddrPort, set ...option) (socket, error) {
	family := unix.AF_INET
	if addr.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	s := socket(fd)
	tv := unix.NsecToTimeval(int64(patience))
	err = errors.Join(
		os.NewSyscallError("SO_RCVTIMEO", unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)),
		os.NewSyscallError("SO_SNDTIMEO", unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv)))
	for _, o := range set {
		err = errors.Join(err, o(s))
	}
	if err == nil && (addr.Port() != 0 || !addr.Addr().IsUnspecified()) {
		if err = unix.Bind(fd, sockaddr(addr)); err != nil {
			err = fmt.Errorf("bind to %s: %w", addr, err)
		}
	}
	if err != nil {
		s.close()
		return -1, err
	}
	return s, nil
}

// option is set before a socket is bound.
type option func(socket) error

// number sets an option that is a number.
func number(level, name, value int) option {
	return func(s socket) error {
		return os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(s), level, name, value))
	}
}

func congestion(name string) option {
	return func(s socket) error {
		err := unix.SetsockoptString(int(s), unix.IPPROTO_TCP, unix.TCP_CONGESTION, name)
		if err != nil {
			return fmt.Errorf("congestion control %q: %w (see net.ipv4.tcp_available_congestion_control)", name, err)
		}
		return nil
	}
}

func (s socket) close() { _ = unix.Close(int(s)) }

// reset closes a TCP connection at once: what is not sent is thrown away, and the
// other side is told.
func (s socket) reset() {
	_ = unix.SetsockoptLinger(int(s), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	s.close()
}

// local returns the address that s is bound to.
func (s socket) local() (netip.AddrPort, error) {
	sa, err := unix.Getsockname(int(s))
	if err != nil {
		return netip.AddrPort{}, os.NewSyscallError("getsockname", err)
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)), nil
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port)), nil
	}
	return netip.AddrPort{}, fmt.Errorf("getsockname: an address of another family")
}

// payload returns n bytes to send. They are written to: memory that never was is
// one page of zeros for the kernel, which it copies faster than any program's data.
func payload(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

// drops returns how many packets the kernel dropped because s had no room.
func (s socket) drops() (uint64, error) {
	const meminfo, dropsAt = 55, 8 // SO_MEMINFO, SK_MEMINFO_DROPS
	var vars [9]uint32
	n := uint32(unsafe.Sizeof(vars))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s), unix.SOL_SOCKET, meminfo,
		uintptr(unsafe.Pointer(&vars)), uintptr(unsafe.Pointer(&n)), 0)
	if errno != 0 {
		return 0, os.NewSyscallError("SO_MEMINFO", errno)
	}
	return uint64(vars[dropsAt]), nil
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// anyAddr returns addr, or that of its family which stands for all if there is none.
func anyAddr(addr netip.Addr, v6 bool) netip.Addr {
	switch {
	case addr.IsValid():
		return addr
	case v6:
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// later reports whether a call is to be tried again, after a look at whether the
// load is over.
func later(err error) bool {
	return err == unix.EAGAIN || err == unix.EINTR || err == unix.EINPROGRESS || err == unix.EALREADY
}

// readFull fills b. It returns false if the other side closed before the first
// byte, or if done says so.
func (s socket) readFull(b []byte, done func() bool) (bool, error) {
	for at := 0; at < len(b); {
		n, err := unix.Read(int(s), b[at:])
		switch {
		case err == nil && n == 0:
			return false, nil
		case err == nil:
			at += n
		case !later(err):
			return false, os.NewSyscallError("read", err)
		case done():
			return false, nil
		}
	}
	return true, nil
}

// writeFull writes b, and returns false if done says so before.
func (s socket) writeFull(b []byte, done func() bool) (bool, error) {
	for at := 0; at < len(b); {
		n, err := unix.SendmsgN(int(s), b[at:], nil, nil, unix.MSG_NOSIGNAL)
		switch {
		case err == nil:
			at += n
		case !later(err):
			return false, os.NewSyscallError("write", err)
		case done():
			return false, nil
		}
	}
	return true, nil
}
