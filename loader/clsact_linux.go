package loader

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/florianl/go-tc"
	"github.com/florianl/go-tc/core"
	"golang.org/x/sys/unix"

	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/internal/rtnl"
)

// Priorities of our filters in a clsact qdisc: in the order in which they run.
// Filters that `tc` gives a priority run behind them.
const (
	prioTrace  = 0x4e01
	prioFilter = 0x4e02
	prioCount  = 0x4e03
)

// clsactOwner begins the names of a lab's filters, which `tc filter show` prints.
// The name says what is ours; handles are the kernel's choice, because two labs
// may share a device of the host.
func clsactOwner(lab string) string { return "nsbpf/" + lab + "/" }

// clsactKind is the qdisc that has room for filters on both sides of a device.
const clsactKind = "clsact"

// sides are the parents of filters in a clsact qdisc, by [hop.Direction].
var sides = [...]uint32{
	hop.Ingress: core.BuildHandle(tc.HandleRoot, tc.HandleMinIngress),
	hop.Egress:  core.BuildHandle(tc.HandleRoot, tc.HandleMinEgress),
}

// clsact attaches to devices of one namespace.
type clsact struct {
	conn *tc.Tc
	// list, because conn gives up at kinds of qdiscs and filters it does not know.
	list *rtnl.Conn
	// kinds are those of the qdiscs that stand where clsact goes, by device.
	kinds map[int]string
}

func openClsact(ns *os.File) (*clsact, error) {
	list, err := rtnl.Dial(ns)
	if err != nil {
		return nil, err
	}
	conn, err := tc.Open(&tc.Config{NetNS: int(ns.Fd())})
	if err != nil {
		list.Close()
		return nil, fmt.Errorf("open traffic control socket: %w", err)
	}
	c := &clsact{conn: conn, list: list}
	if err := c.readKinds(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *clsact) Close() error {
	c.list.Close()
	return c.conn.Close()
}

func (c *clsact) readKinds() error {
	qs, err := c.list.Qdiscs()
	if err != nil {
		return err
	}
	c.kinds = make(map[int]string)
	for _, q := range qs {
		if q.Parent == tc.HandleIngress {
			c.kinds[q.Index] = q.Kind
		}
	}
	return nil
}

// addQdisc adds a clsact qdisc to the device, where there may be one.
//
// A qdisc of kind ingress has the same place, and would take filters for egress
// without a word and run them on ingress.
func (c *clsact) addQdisc(ifindex int) error {
	err := c.conn.Qdisc().Add(qdiscObject(ifindex))
	if errors.Is(err, unix.EEXIST) {
		err = c.readKinds()
	} else if err == nil {
		c.kinds[ifindex] = clsactKind
	}
	if kind := c.kinds[ifindex]; err == nil && kind != clsactKind {
		return fmt.Errorf("a qdisc of kind %s has its place (remove it with `tc qdisc del dev … ingress`, or use --hook tcx)", kind)
	}
	return err
}

func qdiscObject(ifindex int) *tc.Object {
	return &tc.Object{
		Msg: tc.Msg{
			Family:  unix.AF_UNSPEC,
			Ifindex: uint32(ifindex),
			Handle:  core.BuildHandle(tc.HandleRoot, 0),
			Parent:  tc.HandleIngress,
		},
		Attribute: tc.Attribute{Kind: clsactKind},
	}
}

// addFilter puts p into the device's clsact qdisc.
func (c *clsact) addFilter(p *ebpf.Program, at place, prio uint16, name string) error {
	fd, flags := uint32(p.FD()), uint32(tc.BpfActDirect)
	return c.conn.Filter().Add(&tc.Object{
		Msg: tc.Msg{
			Family:  unix.AF_UNSPEC,
			Ifindex: uint32(at.ifindex),
			Parent:  sides[at.Direction],
			Info:    core.FilterInfo(prio, unix.ETH_P_ALL),
		},
		Attribute: tc.Attribute{Kind: "bpf", BPF: &tc.Bpf{FD: &fd, Flags: &flags, Name: &name}},
	})
}

// removeFilters removes the filters whose name matches from every device of the
// namespace, whatever the device is called by now.
func (c *clsact) removeFilters(match func(name string) bool) error {
	if err := c.readKinds(); err != nil {
		return err
	}
	for ifindex, kind := range c.kinds {
		if kind != clsactKind {
			continue
		}
		for _, side := range sides {
			fs, err := c.list.Filters(ifindex, side)
			if err != nil {
				return err
			}
			for _, f := range fs {
				if f.Kind != "bpf" || !match(f.Name) {
					continue
				}
				if err := c.removeFilter(ifindex, f); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// removeFilter removes f; one that is gone, by itself or with its device, is no
// error.
func (c *clsact) removeFilter(ifindex int, f rtnl.Filter) error {
	err := c.conn.Filter().Delete(&tc.Object{
		Msg: tc.Msg{
			Family:  unix.AF_UNSPEC,
			Ifindex: uint32(ifindex),
			Handle:  f.Handle,
			Parent:  f.Parent,
			Info:    core.FilterInfo(f.Prio, unix.ETH_P_ALL),
		},
		Attribute: tc.Attribute{Kind: "bpf"},
	})
	switch {
	case err == nil, errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV):
		return nil
	case errors.Is(err, unix.EINVAL): // also the answer where there is no qdisc any more
		if again := c.readKinds(); again == nil && c.kinds[ifindex] == "" {
			return nil
		}
	}
	return fmt.Errorf("remove clsact filter %s from device %d: %w", f.Name, ifindex, err)
}

// removeQdisc removes the device's clsact qdisc unless filters are in it, whose
// names it returns.
func (c *clsact) removeQdisc(ifindex int) (rest []string, err error) {
	if c.kinds[ifindex] != clsactKind {
		return nil, nil
	}
	for _, side := range sides {
		fs, err := c.list.Filters(ifindex, side)
		if err != nil {
			return nil, err
		}
		for _, f := range fs {
			rest = append(rest, f.Name)
		}
	}
	if len(rest) > 0 {
		return rest, nil
	}
	err = c.conn.Qdisc().Delete(qdiscObject(ifindex))
	if err != nil && !errors.Is(err, unix.ENODEV) && !errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("remove clsact qdisc from device %d: %w", ifindex, err)
	}
	return nil, nil
}
