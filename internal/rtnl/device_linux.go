package rtnl

import (
	"fmt"
	"net"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Numbers of linux/if_link.h that the libraries lack.
const (
	iflaBridgeVLANFiltering = 7
	iflaBridgeCallIPTables  = 36
	iflaBridgeCallIP6Tables = 37
	iflaBrportIsolated      = 33
	iflaInetConf            = 1
	iflaInet6Conf           = 2
)

// Device is what decides about packets at a device. [Link] is the part of it that
// up and down need.
type Device struct {
	Index   int
	Name    string
	Kind    string // as `ip -d link` names it; loopback of lo, "" of hardware
	MAC     net.HardwareAddr
	MTU     int
	Up      bool // administratively
	Running bool // operational state is up, or unknown
	Master  int  // 0: none
	// Peer is the index of a veth's other end, in the namespace that has the number
	// PeerNS here; -1: this one.
	Peer   int
	PeerNS int
	// PortState is that of a bridge port, as linux/if_bridge.h numbers them; -1 of
	// others.
	PortState int
	Isolated  bool
	// Of a bridge.
	VLANFiltering, CallIPTables, CallIP6Tables bool
	XDP                                        uint32 // the program's ID; 0: none
	// Conf4 and Conf6 are the device's settings below net.ipv4.conf and
	// net.ipv6.conf, by the kernel's numbers (linux/ip.h less 1, linux/ipv6.h).
	Conf4, Conf6 []uint32
	Stats        []uint64 // struct rtnl_link_stats64
}

// Devices returns all devices of the namespace.
func (c *Conn) Devices() ([]Device, error) {
	msgs, err := Retry(func() ([][]byte, error) {
		req := c.request(unix.RTM_GETLINK, unix.NLM_F_DUMP)
		req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
		return req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
	})
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	ds := make([]Device, 0, len(msgs))
	for _, m := range msgs {
		d, err := parseDevice(m)
		if err != nil {
			return nil, fmt.Errorf("list devices: %w", err)
		}
		ds = append(ds, d)
	}
	return ds, nil
}

func parseDevice(m []byte) (Device, error) {
	head := nl.DeserializeIfInfomsg(m)
	attrs, err := parse(m[head.Len():])
	if err != nil {
		return Device{}, err
	}
	d := Device{
		Index:     int(head.Index),
		Name:      unix.ByteSliceToString(attrs[unix.IFLA_IFNAME]),
		MAC:       net.HardwareAddr(attrs[unix.IFLA_ADDRESS]),
		MTU:       number(attrs[unix.IFLA_MTU]),
		Up:        head.Flags&unix.IFF_UP != 0,
		Running:   head.Flags&unix.IFF_RUNNING != 0,
		Master:    number(attrs[unix.IFLA_MASTER]),
		Peer:      number(attrs[unix.IFLA_LINK]),
		PeerNS:    -1,
		PortState: -1,
		Stats:     words[uint64](attrs[unix.IFLA_STATS64]),
	}
	if v := attrs[unix.IFLA_LINK_NETNSID]; len(v) == 4 {
		d.PeerNS = int(int32(nl.NativeEndian().Uint32(v)))
	}
	if head.Flags&unix.IFF_LOOPBACK != 0 {
		d.Kind = "loopback"
	}
	xdp, err := parse(attrs[unix.IFLA_XDP])
	if err != nil {
		return Device{}, err
	}
	d.XDP = uint32(number(xdp[nl.IFLA_XDP_PROG_ID]))
	if err := d.parseConf(attrs[unix.IFLA_AF_SPEC]); err != nil {
		return Device{}, err
	}
	return d, d.parseInfo(attrs[unix.IFLA_LINKINFO])
}

func (d *Device) parseConf(spec []byte) error {
	families, err := parse(spec)
	if err != nil {
		return err
	}
	v4, err := parse(families[unix.AF_INET])
	if err != nil {
		return err
	}
	v6, err := parse(families[unix.AF_INET6])
	if err != nil {
		return err
	}
	d.Conf4, d.Conf6 = words[uint32](v4[iflaInetConf]), words[uint32](v6[iflaInet6Conf])
	return nil
}

func (d *Device) parseInfo(linkInfo []byte) error {
	attrs, err := parse(linkInfo)
	if err != nil {
		return err
	}
	if kind := unix.ByteSliceToString(attrs[nl.IFLA_INFO_KIND]); kind != "" {
		d.Kind = kind
	}
	if d.Kind == "bridge" {
		b, err := parse(attrs[nl.IFLA_INFO_DATA])
		if err != nil {
			return err
		}
		d.VLANFiltering = number(b[iflaBridgeVLANFiltering]) == 1
		d.CallIPTables = number(b[iflaBridgeCallIPTables]) == 1
		d.CallIP6Tables = number(b[iflaBridgeCallIP6Tables]) == 1
	}
	if unix.ByteSliceToString(attrs[nl.IFLA_INFO_SLAVE_KIND]) == "bridge" {
		p, err := parse(attrs[iflaInfoSlaveData])
		if err != nil {
			return err
		}
		d.PortState = number(p[iflaBrportState])
		d.Isolated = number(p[iflaBrportIsolated]) == 1
	}
	return nil
}

// number returns an attribute of one, two or four bytes, 0 if it is none.
func number(b []byte) int {
	switch len(b) {
	case 1:
		return int(b[0])
	case 2:
		return int(nl.NativeEndian().Uint16(b))
	case 4:
		return int(nl.NativeEndian().Uint32(b))
	}
	return 0
}

// words returns an attribute that is an array.
func words[T uint32 | uint64](b []byte) []T {
	var size int
	var zero T
	switch any(zero).(type) {
	case uint32:
		size = 4
	case uint64:
		size = 8
	}
	list := make([]T, 0, len(b)/size)
	for ; len(b) >= size; b = b[size:] {
		if size == 4 {
			list = append(list, T(nl.NativeEndian().Uint32(b)))
		} else {
			list = append(list, T(nl.NativeEndian().Uint64(b)))
		}
	}
	return list
}
