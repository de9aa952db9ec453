// Package rtnl talks rtnetlink with one network namespace at a time.
//
// It is a thin layer on vishvananda/netlink: dumps are retried when the kernel
// says they were interrupted, and the few messages that the library cannot
// build are built here.
package rtnl

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Conn is a connection to one namespace. Its methods may not be called at the
// same time.
type Conn struct {
	handle  *netlink.Handle
	sockets map[int]*nl.SocketHandle
}

// Dial connects to ns; nil is the caller's namespace.
func Dial(ns *os.File) (*Conn, error) {
	at := handleOf(ns)
	h, err := netlink.NewHandleAt(at, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink socket: %w", err)
	}
	s, err := nl.GetNetlinkSocketAt(at, netns.None(), unix.NETLINK_ROUTE)
	if err != nil {
		h.Close()
		return nil, fmt.Errorf("open rtnetlink socket: %w", err)
	}
	// What the kernel has to say about a refusal; older kernels keep silent.
	_ = s.SetExtAck(true)
	return &Conn{handle: h, sockets: map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: s}}}, nil
}

func handleOf(ns *os.File) netns.NsHandle {
	if ns == nil {
		return netns.None()
	}
	return netns.NsHandle(ns.Fd())
}

// Close releases the connection's sockets.
func (c *Conn) Close() {
	c.handle.Close()
	for _, s := range c.sockets {
		s.Close()
	}
}

// tries bounds [Retry]. A dump is interrupted only if its table changes while
// it runs, so that a few tries do.
const tries = 20

// Retry calls dump again while the kernel says that its answer was interrupted
// by a change and may lack entries.
func Retry[T any](dump func() (T, error)) (v T, err error) {
	for range tries {
		if v, err = dump(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return v, err
		}
	}
	return v, fmt.Errorf("after %d tries: %w", tries, err)
}

// request makes a message of this connection.
func (c *Conn) request(kind, flags int) *nl.NetlinkRequest {
	r := nl.NewNetlinkRequest(kind, flags)
	r.Sockets = c.sockets
	return r
}

// AddAddr gives a device an address, IPv4 with its subnet's broadcast address
// if it has one, IPv6 without duplicate address detection.
func (c *Conn) AddAddr(index int, p netip.Prefix) error {
	return c.handle.AddrAdd(byIndex(index), address(p))
}

// DelAddr takes an address from a device.
func (c *Conn) DelAddr(index int, p netip.Prefix) error {
	return c.handle.AddrDel(byIndex(index), address(p))
}

func address(p netip.Prefix) *netlink.Addr {
	a := &netlink.Addr{IPNet: ipNet(p)}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	return a
}

// Addr is one address of a device.
type Addr struct {
	Index     int
	Prefix    netip.Prefix
	Tentative bool // duplicate address detection has not ended
	Duplicate bool // it has, and somebody else has the address
}

// Addrs returns all addresses of the namespace.
func (c *Conn) Addrs() ([]Addr, error) {
	list, err := Retry(func() ([]netlink.Addr, error) { return c.handle.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	as := make([]Addr, 0, len(list))
	for _, a := range list {
		as = append(as, Addr{
			Index:     a.LinkIndex,
			Prefix:    prefix(a.IPNet),
			Tentative: a.Flags&unix.IFA_F_TENTATIVE != 0 && a.Flags&unix.IFA_F_OPTIMISTIC == 0,
			Duplicate: a.Flags&unix.IFA_F_DADFAILED != 0,
		})
	}
	return as, nil
}

// Route is an entry of the main table. Of a route with several next hops,
// Indexes has each one's device.
type Route struct {
	Dst     netip.Prefix // 0.0.0.0/0 or ::/0: default
	Indexes []int
}

// Routes returns the unicast routes of the main table, IPv4 first.
func (c *Conn) Routes() ([]Route, error) {
	var rs []Route
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := Retry(func() ([]netlink.Route, error) { return c.handle.RouteList(nil, family) })
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		for _, r := range list {
			if r.Type == unix.RTN_UNICAST {
				rs = append(rs, route(family, r))
			}
		}
	}
	return rs, nil
}

func route(family int, r netlink.Route) Route {
	out := Route{Dst: netip.PrefixFrom(netip.IPv4Unspecified(), 0)}
	if family == netlink.FAMILY_V6 {
		out.Dst = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	if r.Dst != nil {
		out.Dst = prefix(r.Dst)
	}
	if r.LinkIndex != 0 {
		out.Indexes = append(out.Indexes, r.LinkIndex)
	}
	for _, hop := range r.MultiPath {
		out.Indexes = append(out.Indexes, hop.LinkIndex)
	}
	return out
}

// AddRoute adds a route to the main table.
func (c *Conn) AddRoute(dst netip.Prefix, via netip.Addr) error {
	return c.handle.RouteAdd(&netlink.Route{Dst: ipNet(dst), Gw: via.AsSlice()})
}

// DelRoute takes such a route away.
func (c *Conn) DelRoute(dst netip.Prefix, via netip.Addr) error {
	return c.handle.RouteDel(&netlink.Route{Dst: ipNet(dst), Gw: via.AsSlice()})
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func prefix(n *net.IPNet) netip.Prefix {
	a, _ := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), bits)
}

// byIndex satisfies the library where only the index is looked at.
func byIndex(index int) netlink.Link {
	return &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: index}}
}
