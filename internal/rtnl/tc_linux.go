package rtnl

import (
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Qdisc is a queueing discipline of a device.
type Qdisc struct {
	Index  int // of the device
	Parent uint32
	Kind   string
	Drops  uint32 // packets
}

// Qdiscs returns the queueing disciplines of all devices. Of kinds that are not
// known here no more is read than what they share.
func (c *Conn) Qdiscs() ([]Qdisc, error) {
	var qs []Qdisc
	err := c.dumpTC(unix.RTM_GETQDISC, unix.RTM_NEWQDISC, nl.TcMsg{}, func(head *nl.TcMsg, attrs map[uint16][]byte) error {
		qs = append(qs, Qdisc{
			Index:  int(head.Ifindex),
			Parent: head.Parent,
			Kind:   unix.ByteSliceToString(attrs[nl.TCA_KIND]),
			Drops:  drops(attrs),
		})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list qdiscs: %w", err)
	}
	return qs, nil
}

// drops returns what a queueing discipline dropped: in struct gnet_stats_queue,
// behind its length and backlog.
func drops(attrs map[uint16][]byte) uint32 {
	stats, err := parse(attrs[nl.TCA_STATS2])
	if v := stats[nl.TCA_STATS_QUEUE]; err == nil && len(v) >= 12 {
		return nl.NativeEndian().Uint32(v[8:])
	}
	return 0
}

// Filter is a traffic control filter.
type Filter struct {
	Parent uint32
	Handle uint32
	Prio   uint16
	Kind   string
	Name   string // of kind bpf
}

// Filters returns the filters at parent of a device, whatever their kind. A
// device that is gone has none.
func (c *Conn) Filters(index int, parent uint32) ([]Filter, error) {
	var fs []Filter
	at := nl.TcMsg{Ifindex: int32(index), Parent: parent}
	err := c.dumpTC(unix.RTM_GETTFILTER, unix.RTM_NEWTFILTER, at, func(head *nl.TcMsg, attrs map[uint16][]byte) error {
		if head.Handle == 0 {
			return nil // stands for all filters of one priority
		}
		f := Filter{
			Parent: head.Parent,
			Handle: head.Handle,
			Prio:   uint16(head.Info >> 16),
			Kind:   unix.ByteSliceToString(attrs[nl.TCA_KIND]),
		}
		if f.Kind == "bpf" {
			options, err := parse(attrs[nl.TCA_OPTIONS])
			if err != nil {
				return err
			}
			f.Name = unix.ByteSliceToString(options[nl.TCA_BPF_NAME])
		}
		fs = append(fs, f)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list filters of device %d: %w", index, err)
	}
	return fs, nil
}

// dumpTC calls fn for each object that the kernel answers with.
func (c *Conn) dumpTC(get, is int, at nl.TcMsg, fn func(*nl.TcMsg, map[uint16][]byte) error) error {
	msgs, err := Retry(func() ([][]byte, error) {
		req := c.request(get, unix.NLM_F_DUMP)
		req.AddData(&at)
		return req.Execute(unix.NETLINK_ROUTE, uint16(is))
	})
	if err != nil {
		return err
	}
	for _, m := range msgs {
		head := nl.DeserializeTcMsg(m)
		attrs, err := parse(m[head.Len():])
		if err != nil {
			return err
		}
		if err := fn(head, attrs); err != nil {
			return err
		}
	}
	return nil
}
