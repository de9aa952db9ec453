package rtnl

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Numbers of linux/if_link.h that the libraries lack.
const (
	iflaInfoSlaveData = 5
	iflaBrportState   = 1
	filterSkipStats   = 1 << 3

	brStateForwarding = 3
	operUp            = 6
)

// Link is what one needs to know of a device to wait for it and to undo it.
type Link struct {
	Index      int
	Name       string
	AltNames   []string
	Group      uint32
	Up         bool // administratively
	Running    bool // operational state is up
	Port       bool // has a bridge as its master
	Forwarding bool // a port in the forwarding state
}

// Links returns all devices of the namespace.
func (c *Conn) Links() ([]Link, error) {
	msgs, err := Retry(func() ([][]byte, error) {
		req := c.request(unix.RTM_GETLINK, unix.NLM_F_DUMP)
		req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
		req.AddData(nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(filterSkipStats)))
		return req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
	})
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	ls := make([]Link, 0, len(msgs))
	for _, m := range msgs {
		l, err := parseLink(m)
		if err != nil {
			return nil, fmt.Errorf("list devices: %w", err)
		}
		ls = append(ls, l)
	}
	return ls, nil
}

func parseLink(m []byte) (Link, error) {
	head := nl.DeserializeIfInfomsg(m)
	attrs, err := parse(m[head.Len():])
	if err != nil {
		return Link{}, err
	}
	l := Link{Index: int(head.Index), Up: head.Flags&unix.IFF_UP != 0}
	l.Name = unix.ByteSliceToString(attrs[unix.IFLA_IFNAME])
	if v := attrs[unix.IFLA_GROUP]; len(v) == 4 {
		l.Group = nl.NativeEndian().Uint32(v)
	}
	if v := attrs[unix.IFLA_OPERSTATE]; len(v) == 1 {
		l.Running = v[0] == operUp
	}
	names, err := nl.ParseRouteAttr(attrs[unix.IFLA_PROP_LIST])
	if err != nil {
		return Link{}, err
	}
	for _, n := range names {
		if n.Attr.Type == unix.IFLA_ALT_IFNAME {
			l.AltNames = append(l.AltNames, unix.ByteSliceToString(n.Value))
		}
	}
	return l, l.parsePort(attrs[unix.IFLA_LINKINFO])
}

// parsePort reads the slave half of IFLA_LINKINFO.
func (l *Link) parsePort(linkInfo []byte) error {
	attrs, err := parse(linkInfo)
	if err != nil || unix.ByteSliceToString(attrs[nl.IFLA_INFO_SLAVE_KIND]) != "bridge" {
		return err
	}
	l.Port = true
	port, err := parse(attrs[iflaInfoSlaveData])
	if err != nil {
		return err
	}
	if v := port[iflaBrportState]; len(v) == 1 {
		l.Forwarding = v[0] == brStateForwarding
	}
	return nil
}

// parse returns attributes by type, without the flags that some types carry.
func parse(b []byte) (map[uint16][]byte, error) {
	list, err := nl.ParseRouteAttr(b)
	if err != nil {
		return nil, err
	}
	attrs := make(map[uint16][]byte, len(list))
	for _, a := range list {
		attrs[a.Attr.Type&nl.NLA_TYPE_MASK] = a.Value
	}
	return attrs, nil
}

// Index returns the number of the device of that name. The error wraps ENODEV.
func (c *Conn) Index(name string) (int, error) {
	req := c.request(unix.RTM_GETLINK, 0)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	req.AddData(nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(filterSkipStats)))
	msgs, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
	if err != nil {
		return 0, fmt.Errorf("find device %q: %w", name, err)
	}
	if len(msgs) != 1 {
		return 0, fmt.Errorf("find device %q: %d answers", name, len(msgs))
	}
	return int(nl.DeserializeIfInfomsg(msgs[0]).Index), nil
}

// Bridge describes a bridge to add.
type Bridge struct {
	Name  string
	MAC   net.HardwareAddr
	Group uint32
}

// AddBridge makes a bridge, down.
func (c *Conn) AddBridge(b Bridge) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr, attrs.Group = b.Name, b.MAC, b.Group
	return c.handle.LinkAdd(&netlink.Bridge{LinkAttrs: attrs})
}

// Veth describes a pair to add.
type Veth struct {
	Name      string // of the end in the connection's namespace
	Index     int    // of that end; 0: the kernel's choice
	Peer      string
	PeerIndex int      // likewise
	PeerNS    *os.File // nil: the same namespace
	MTU       int      // 0: the kernel's, 1500
	Group     uint32   // of both ends
	QueuesRx  int      // of both ends; 0: the kernel's, one a CPU
	QueuesTx  int
}

// AddVeth makes a veth pair, down, in one message: both ends are where they
// belong, in their group, from the start.
func (c *Conn) AddVeth(v Veth) error {
	req := c.request(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	head := nl.NewIfInfomsg(unix.AF_UNSPEC)
	head.Index = int32(v.Index)
	req.AddData(head)
	for _, a := range v.end(v.Name) {
		req.AddData(a)
	}
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("veth"))
	peer := info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(nl.VETH_INFO_PEER, nil)
	nl.NewIfInfomsgChild(peer, unix.AF_UNSPEC).Index = int32(v.PeerIndex)
	for _, a := range v.end(v.Peer) {
		peer.AddChild(a)
	}
	if v.PeerNS != nil {
		peer.AddRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(v.PeerNS.Fd())))
	}
	req.AddData(info)
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// end returns the attributes that both ends have.
func (v Veth) end(name string) []*nl.RtAttr {
	attrs := []*nl.RtAttr{
		nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)),
		nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(v.Group)),
	}
	for _, a := range []struct{ kind, value int }{
		{unix.IFLA_MTU, v.MTU},
		{unix.IFLA_NUM_RX_QUEUES, v.QueuesRx},
		{unix.IFLA_NUM_TX_QUEUES, v.QueuesTx},
	} {
		if a.value != 0 {
			attrs = append(attrs, nl.NewRtAttr(a.kind, nl.Uint32Attr(uint32(a.value))))
		}
	}
	return attrs
}

// SetPort makes a device a port of the bridge master, and keeps it without an
// IPv6 link-local address, in one message.
func (c *Conn) SetPort(index, master int) error {
	req := c.request(unix.RTM_SETLINK, unix.NLM_F_ACK)
	head := nl.NewIfInfomsg(unix.AF_UNSPEC)
	head.Index = int32(index)
	req.AddData(head)
	req.AddData(nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(uint32(master))))
	spec := nl.NewRtAttr(unix.IFLA_AF_SPEC, nil)
	spec.AddRtAttr(unix.AF_INET6, nil).AddRtAttr(unix.IFLA_INET6_ADDR_GEN_MODE, []byte{nl.IN6_ADDR_GEN_MODE_NONE})
	req.AddData(spec)
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// SetUp brings a device up.
func (c *Conn) SetUp(index int) error { return c.handle.LinkSetUp(byIndex(index)) }

// AddAltName gives a device a further name.
func (c *Conn) AddAltName(index int, name string) error {
	return c.handle.LinkAddAltName(byIndex(index), name)
}

// SetAlias sets a device's alias.
func (c *Conn) SetAlias(index int, alias string) error {
	return c.handle.LinkSetAlias(byIndex(index), alias)
}

// Alias returns a device's alias; empty if it has none.
func (c *Conn) Alias(index int) (string, error) {
	l, err := c.handle.LinkByIndex(index)
	if err != nil {
		return "", fmt.Errorf("read alias of device %d: %w", index, err)
	}
	return l.Attrs().Alias, nil
}

// DeleteGroup removes every device of a group in one message, which costs the
// kernel's grace period once. None there is no error.
func (c *Conn) DeleteGroup(group uint32) error {
	req := c.request(unix.RTM_DELLINK, unix.NLM_F_ACK)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(group)))
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete devices of group %d: %w", group, err)
	}
	return nil
}

// Delete removes one device. One that is gone is no error.
func (c *Conn) Delete(index int) error {
	err := c.handle.LinkDel(byIndex(index))
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete device %d: %w", index, err)
	}
	return nil
}
