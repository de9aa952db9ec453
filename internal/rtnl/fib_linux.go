package rtnl

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// FIBRoute is a route of any table and kind.
type FIBRoute struct {
	Table    int
	Kind     uint8 // RTN_UNICAST and so on
	Dst      netip.Prefix
	From     netip.Prefix // IPv6: of such sources only; zero: of all
	Via      netip.Addr
	Index    int // of the device
	Src      netip.Addr
	Priority int
	TOS      int
	MTU      int
	Dead     bool // the kernel does not use it
	Hops     []NextHop
}

// NextHop is one of several of a route.
type NextHop struct {
	Via   netip.Addr
	Index int
	Dead  bool
}

// FIB returns the routes of all tables, IPv4 first.
func (c *Conn) FIB() ([]FIBRoute, error) {
	var rs []FIBRoute
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		msgs, err := Retry(func() ([][]byte, error) {
			req := c.request(unix.RTM_GETROUTE, unix.NLM_F_DUMP)
			req.AddData(&nl.RtMsg{RtMsg: unix.RtMsg{Family: uint8(family)}})
			return req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWROUTE)
		})
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		for _, m := range msgs {
			r, err := parseRoute(m)
			if err != nil {
				return nil, fmt.Errorf("list routes: %w", err)
			}
			rs = append(rs, r)
		}
	}
	return rs, nil
}

func parseRoute(m []byte) (FIBRoute, error) {
	head := nl.DeserializeRtMsg(m)
	attrs, err := parse(m[head.Len():])
	if err != nil {
		return FIBRoute{}, err
	}
	r := FIBRoute{
		Table:    int(head.Table),
		Kind:     head.Type,
		Dst:      prefixOf(head.Family, attrs[unix.RTA_DST], int(head.Dst_len)),
		Via:      gateway(attrs),
		Index:    number(attrs[unix.RTA_OIF]),
		Src:      addrOf(attrs[unix.RTA_PREFSRC]),
		Priority: number(attrs[unix.RTA_PRIORITY]),
		TOS:      int(head.Tos),
		Dead:     head.Flags&unix.RTNH_F_DEAD != 0,
	}
	if head.Src_len != 0 {
		r.From = prefixOf(head.Family, attrs[unix.RTA_SRC], int(head.Src_len))
	}
	if t := number(attrs[unix.RTA_TABLE]); t != 0 {
		r.Table = t
	}
	metrics, err := parse(attrs[unix.RTA_METRICS])
	if err != nil {
		return FIBRoute{}, err
	}
	r.MTU = number(metrics[unix.RTAX_MTU])
	return r, r.parseHops(attrs[unix.RTA_MULTIPATH])
}

// gateway returns the next hop, which of IPv4 routes may be of IPv6.
func gateway(attrs map[uint16][]byte) netip.Addr {
	if v := attrs[unix.RTA_VIA]; len(v) > 2 {
		return addrOf(v[2:])
	}
	return addrOf(attrs[unix.RTA_GATEWAY])
}

// parseHops reads a list of struct rtnexthop, each with attributes.
func (r *FIBRoute) parseHops(b []byte) error {
	for len(b) >= unix.SizeofRtNexthop {
		size := int(nl.NativeEndian().Uint16(b))
		if size < unix.SizeofRtNexthop || size > len(b) {
			return fmt.Errorf("next hop of %d bytes of %d", size, len(b))
		}
		attrs, err := parse(b[unix.SizeofRtNexthop:size])
		if err != nil {
			return err
		}
		r.Hops = append(r.Hops, NextHop{
			Via:   gateway(attrs),
			Index: int(int32(nl.NativeEndian().Uint32(b[4:]))),
			Dead:  b[2]&unix.RTNH_F_DEAD != 0,
		})
		b = b[min((size+3)/4*4, len(b)):]
	}
	return nil
}

// FIBRule is a policy routing rule.
type FIBRule struct {
	V6       bool
	Priority int
	Action   uint8 // FR_ACT_TO_TBL and so on
	Table    int
	Not      bool
	From, To netip.Prefix // zero: all
	IIF, OIF string
	Mark     uint32
	Mask     uint32
	TOS      int
	Proto    int
	Sport    [2]uint16
	Dport    [2]uint16
	Goto     int
	Suppress int // the longest prefix that does not count; -1: none
	UIDs     bool
	L3MDev   bool
	Tunnel   bool
}

// Numbers of linux/fib_rules.h that the libraries lack.
const (
	fraTunID       = 12
	fraL3MDev      = 19
	fraUIDRange    = 20
	fraIPProto     = 22
	fraSport       = 23
	fraDport       = 24
	fibRuleInvert  = 2
	fraSuppressLen = 14
)

// FIBRules returns the policy routing rules, IPv4 first, by priority.
func (c *Conn) FIBRules() ([]FIBRule, error) {
	var rs []FIBRule
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		msgs, err := Retry(func() ([][]byte, error) {
			req := c.request(unix.RTM_GETRULE, unix.NLM_F_DUMP)
			req.AddData(nl.NewIfInfomsg(family))
			return req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWRULE)
		})
		if err != nil {
			return nil, fmt.Errorf("list rules: %w", err)
		}
		for _, m := range msgs {
			r, err := parseRule(m)
			if err != nil {
				return nil, fmt.Errorf("list rules: %w", err)
			}
			rs = append(rs, r)
		}
	}
	return rs, nil
}

// parseRule reads a struct fib_rule_hdr, which is like an rtmsg, and attributes.
func parseRule(m []byte) (FIBRule, error) {
	head := nl.DeserializeRtMsg(m)
	attrs, err := parse(m[head.Len():])
	if err != nil {
		return FIBRule{}, err
	}
	r := FIBRule{
		V6:       head.Family == unix.AF_INET6,
		Priority: number(attrs[nl.FRA_PRIORITY]),
		Action:   head.Type,
		Table:    int(head.Table),
		Not:      head.Flags&fibRuleInvert != 0,
		IIF:      unix.ByteSliceToString(attrs[nl.FRA_IIFNAME]),
		OIF:      unix.ByteSliceToString(attrs[nl.FRA_OIFNAME]),
		Mark:     uint32(number(attrs[nl.FRA_FWMARK])),
		Mask:     uint32(number(attrs[nl.FRA_FWMASK])),
		TOS:      int(head.Tos),
		Proto:    number(attrs[fraIPProto]),
		Sport:    portRange(attrs[fraSport]),
		Dport:    portRange(attrs[fraDport]),
		Goto:     number(attrs[nl.FRA_GOTO]),
		Suppress: -1,
		UIDs:     attrs[fraUIDRange] != nil,
		L3MDev:   number(attrs[fraL3MDev]) == 1,
		Tunnel:   attrs[fraTunID] != nil,
	}
	if t := number(attrs[nl.FRA_TABLE]); t != 0 {
		r.Table = t
	}
	if v := attrs[fraSuppressLen]; len(v) == 4 {
		r.Suppress = int(int32(nl.NativeEndian().Uint32(v)))
	}
	if head.Src_len != 0 {
		r.From = prefixOf(head.Family, attrs[nl.FRA_SRC], int(head.Src_len))
	}
	if head.Dst_len != 0 {
		r.To = prefixOf(head.Family, attrs[nl.FRA_DST], int(head.Dst_len))
	}
	return r, nil
}

func portRange(b []byte) [2]uint16 {
	if len(b) < 4 {
		return [2]uint16{}
	}
	return [2]uint16{nl.NativeEndian().Uint16(b), nl.NativeEndian().Uint16(b[2:])}
}

// Neighbour is an entry of a neighbour table, or of a bridge's FDB.
type Neighbour struct {
	Index  int
	Addr   netip.Addr // zero in an FDB
	MAC    net.HardwareAddr
	State  uint16 // NUD_REACHABLE and so on
	Flags  uint8
	Master int // of an FDB entry: the bridge
}

// Neighbours returns the neighbour tables of both families.
func (c *Conn) Neighbours() ([]Neighbour, error) { return c.neighbours(unix.AF_UNSPEC) }

// FDB returns what the bridges know of MAC addresses.
func (c *Conn) FDB() ([]Neighbour, error) { return c.neighbours(unix.AF_BRIDGE) }

func (c *Conn) neighbours(family int) ([]Neighbour, error) {
	msgs, err := Retry(func() ([][]byte, error) {
		req := c.request(unix.RTM_GETNEIGH, unix.NLM_F_DUMP)
		// The kernel takes both headers here, and asks that unused bytes are 0.
		req.AddData(nl.NewIfInfomsg(family))
		return req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWNEIGH)
	})
	if err != nil {
		return nil, fmt.Errorf("list neighbours: %w", err)
	}
	var ns []Neighbour
	for _, m := range msgs {
		if len(m) < 12 { // struct ndmsg
			return nil, fmt.Errorf("list neighbours: answer of %d bytes", len(m))
		}
		attrs, err := parse(m[12:])
		if err != nil {
			return nil, fmt.Errorf("list neighbours: %w", err)
		}
		n := Neighbour{
			Index:  int(nl.NativeEndian().Uint32(m[4:])),
			MAC:    net.HardwareAddr(attrs[unix.NDA_LLADDR]),
			State:  nl.NativeEndian().Uint16(m[8:]),
			Flags:  m[10],
			Master: number(attrs[unix.NDA_MASTER]),
		}
		if family != unix.AF_BRIDGE {
			n.Addr = addrOf(attrs[unix.NDA_DST])
		}
		ns = append(ns, n)
	}
	return ns, nil
}

// NamespaceNumber returns the number by which the connection's namespace knows
// another one, -1 if it has none.
func (c *Conn) NamespaceNumber(fd uintptr) (int, error) {
	id, err := c.handle.GetNetNsIdByFd(int(fd))
	if err != nil {
		return -1, fmt.Errorf("number of a namespace: %w", err)
	}
	return int(int32(id)), nil
}

func prefixOf(family uint8, b []byte, bits int) netip.Prefix {
	a := addrOf(b)
	if !a.IsValid() {
		a = netip.IPv4Unspecified()
		if family == unix.AF_INET6 {
			a = netip.IPv6Unspecified()
		}
	}
	return netip.PrefixFrom(a, bits)
}

func addrOf(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	return a
}
