package ping

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// option sets or asks something of a socket.
type option func(fd int) error

// control applies options to c.
func control(c syscall.Conn, options ...option) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		for _, o := range options {
			set = errors.Join(set, o(int(fd)))
		}
	})
	return errors.Join(err, set)
}

// sending are the options of sockets that send probes.
func (o Options) sending() []option {
	var set []option
	level, ttl, discover, do := unix.IPPROTO_IP, unix.IP_TTL, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO
	if o.Dst.Is6() {
		level, ttl, discover, do = unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO
	}
	if o.TTL > 0 {
		set = append(set, func(fd int) error { return unix.SetsockoptInt(fd, level, ttl, o.TTL) })
	}
	if o.DontFragment {
		set = append(set, func(fd int) error { return unix.SetsockoptInt(fd, level, discover, do) })
	}
	return set
}

// route returns the source that the kernel chooses for o.Dst, and the MTU of the
// way as far as it is known.
func (o Options) route() (src netip.Addr, mtu int, err error) {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(o.Dst, max(o.Port, 1))))
	if err != nil {
		return src, 0, cause(err)
	}
	defer c.Close()
	err = control(c, func(fd int) (err error) {
		if o.Dst.Is6() {
			mtu, err = unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU)
		} else {
			mtu, err = unix.GetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU)
		}
		return err
	})
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), mtu, err
}

// network returns the name by which package net knows raw sockets of a protocol.
func (o Options) network(proto4, proto6 int) string {
	if o.Dst.Is6() {
		return fmt.Sprintf("ip6:%d", proto6)
	}
	return fmt.Sprintf("ip4:%d", proto4)
}

// room is the buffer of a socket that hears what comes for all probes.
const room = 1 << 20

func roomy(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room) }

// listenICMP returns a socket that sends echoes and hears echo replies and errors.
func (o Options) listenICMP() (*net.IPConn, error) {
	c, err := net.ListenIP(o.network(ipICMP, ipICMP6), nil)
	if err != nil {
		return nil, cause(err)
	}
	only := func(fd int) error {
		const solRaw, icmpFilter = 255, 1
		heard := uint32(1<<icmpEchoReply | 1<<icmpUnreachable | 1<<icmpExceeded | 1<<icmpParameter)
		return unix.SetsockoptInt(fd, solRaw, icmpFilter, int(int32(^heard)))
	}
	if o.Dst.Is6() {
		only = func(fd int) error {
			var f unix.ICMPv6Filter
			for i := range f.Data {
				f.Data[i] = ^uint32(0)
			}
			for _, kind := range []int{icmp6Unreachable, icmp6TooBig, icmp6Exceeded, icmp6Parameter, icmp6Reply} {
				f.Data[kind/32] &^= 1 << (kind % 32)
			}
			return unix.SetsockoptICMPv6Filter(fd, unix.IPPROTO_ICMPV6, unix.ICMPV6_FILTER, &f)
		}
	}
	if err := control(c, append(o.sending(), roomy, only)...); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// dialTCP returns a socket that sends SYNs and hears what o.Port answers to them.
func (o Options) dialTCP() (*net.IPConn, error) {
	c, err := net.DialIP(o.network(ipTCP, ipTCP), nil, &net.IPAddr{IP: o.Dst.AsSlice()})
	if err != nil {
		return nil, cause(err)
	}
	only := func(fd int) error {
		code, err := bpf.Assemble(o.answersOfTCP())
		if err != nil {
			return err
		}
		filter := make([]unix.SockFilter, len(code))
		for i, in := range code {
			filter[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
		}
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
			&unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
	}
	if err := control(c, append(o.sending(), roomy, only)...); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// answersOfTCP is the filter of a raw socket that hears SYN-ACKs and resets from
// o.Port only, so that the load of other connections does not push them out. A raw
// socket has the IP header in front of IPv4 packets only.
func (o Options) answersOfTCP() []bpf.Instruction {
	const offset = 13 // of the flags
	load := func(off, size uint32) bpf.Instruction {
		if o.Dst.Is6() {
			return bpf.LoadAbsolute{Off: off, Size: int(size)}
		}
		return bpf.LoadIndirect{Off: off, Size: int(size)}
	}
	var code []bpf.Instruction
	if o.Dst.Is4() {
		code = append(code, bpf.LoadMemShift{Off: 0})
	}
	return append(code,
		load(0, 2),
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(o.Port), SkipTrue: 3},
		load(offset, 1),
		bpf.JumpIf{Cond: bpf.JumpBitsNotSet, Val: tcpSYN | tcpRST, SkipTrue: 1},
		bpf.RetConstant{Val: 1 << 16},
		bpf.RetConstant{Val: 0},
	)
}

// dialUDP returns a socket that has a port of its own and hears o.Port only.
func (o Options) dialUDP() (*net.UDPConn, error) {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(o.Dst, o.Port)))
	if err != nil {
		return nil, cause(err)
	}
	if err := control(c, o.sending()...); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// reservation is a TCP port of src that nobody else is given until it is closed.
// What comes to it the kernel answers with a reset, as it does where nobody
// listens.
type reservation int

func reserveTCP(src netip.Addr) (reservation, uint16, error) {
	family, addr := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: src.As16()})
	if src.Is4() {
		family, addr = unix.AF_INET, &unix.SockaddrInet4{Addr: src.As4()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, 0, err
	}
	if err := unix.Bind(fd, addr); err != nil {
		return 0, 0, errors.Join(err, unix.Close(fd))
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		return 0, 0, errors.Join(err, unix.Close(fd))
	}
	if a, ok := bound.(*unix.SockaddrInet4); ok {
		return reservation(fd), uint16(a.Port), nil
	}
	return reservation(fd), uint16(bound.(*unix.SockaddrInet6).Port), nil
}

func (r reservation) Close() error { return unix.Close(int(r)) }

// cause returns the kernel's word in err, without what package net says around it.
func cause(err error) error {
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		return errno
	}
	return err
}
