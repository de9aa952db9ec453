package loader

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/florianl/go-tc"
	"github.com/florianl/go-tc/core"
	"golang.org/x/sys/unix"

	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/internal/netns"
)

// Priorities of our filters in a clsact qdisc: in the order in which they run.
const (
	prioTrace  = 0x4e01
	prioFilter = 0x4e02
	prioCount  = 0x4e03
)

// filterName marks our filters, which `tc filter show` prints.
const filterName = "nsbpf"

// clsact attaches to devices of one namespace.
type clsact struct {
	conn *tc.Tc
}

func openClsact(ns *os.File) (*clsact, error) {
	conn, err := tc.Open(&tc.Config{NetNS: int(ns.Fd())})
	if err != nil {
		return nil, fmt.Errorf("opening traffic control: %w", err)
	}
	return &clsact{conn: conn}, nil
}

func (c *clsact) Close() error { return c.conn.Close() }

// addQdisc adds a clsact qdisc to the device and returns whether it was not
// there before.
func (c *clsact) addQdisc(ifindex int) (bool, error) {
	err := c.conn.Qdisc().Add(qdiscObject(ifindex))
	if errors.Is(err, unix.EEXIST) {
		return false, nil
	}
	return err == nil, err
}

func (c *clsact) deleteQdisc(ifindex int) error { return c.conn.Qdisc().Delete(qdiscObject(ifindex)) }

func qdiscObject(ifindex int) *tc.Object {
	return &tc.Object{
		Msg: tc.Msg{
			Family:  unix.AF_UNSPEC,
			Ifindex: uint32(ifindex),
			Handle:  core.BuildHandle(tc.HandleRoot, 0),
			Parent:  tc.HandleIngress,
		},
		Attribute: tc.Attribute{Kind: "clsact"},
	}
}

func side(d hop.Direction) uint32 {
	if d == hop.Egress {
		return core.BuildHandle(tc.HandleRoot, tc.HandleMinEgress)
	}
	return core.BuildHandle(tc.HandleRoot, tc.HandleMinIngress)
}

func filterMsg(ifindex int, d hop.Direction, prio uint16, handle uint32) tc.Msg {
	return tc.Msg{
		Family:  unix.AF_UNSPEC,
		Ifindex: uint32(ifindex),
		Handle:  handle,
		Parent:  side(d),
		Info:    core.FilterInfo(prio, unix.ETH_P_ALL),
	}
}

// addFilter puts p into the device's clsact qdisc.
func (c *clsact) addFilter(p *ebpf.Program, ifindex int, d hop.Direction, prio uint16, handle uint32) error {
	fd, flags, name := uint32(p.FD()), uint32(tc.BpfActDirect), filterName
	return c.conn.Filter().Add(&tc.Object{
		Msg:       filterMsg(ifindex, d, prio, handle),
		Attribute: tc.Attribute{Kind: "bpf", BPF: &tc.Bpf{FD: &fd, Flags: &flags, Name: &name}},
	})
}

// deleteFilter removes a filter of ours; one that is gone is no error.
func (c *clsact) deleteFilter(ifindex int, d hop.Direction, prio uint16, handle uint32) error {
	err := c.conn.Filter().Delete(&tc.Object{
		Msg:       filterMsg(ifindex, d, prio, handle),
		Attribute: tc.Attribute{Kind: "bpf"},
	})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// ours returns our filters on one side of a device and how many others there are.
func (c *clsact) ours(ifindex int, d hop.Direction) (mine []tc.Object, others int, err error) {
	all, err := c.conn.Filter().Get(&tc.Msg{Family: unix.AF_UNSPEC, Ifindex: uint32(ifindex), Parent: side(d)})
	if err != nil {
		return nil, 0, err
	}
	for _, f := range all {
		switch {
		case f.Kind == "bpf" && f.BPF != nil && f.BPF.Name != nil && strings.HasPrefix(*f.BPF.Name, filterName):
			mine = append(mine, f)
		case f.Handle != 0: // 0: the head of a priority, no filter
			others++
		}
	}
	return mine, others, nil
}

// qdiscRecord says that we are about to add a clsact qdisc. It is written
// before, so that a crash leaves no qdisc without one.
type qdiscRecord struct {
	Node   string `json:"node"`
	Device string `json:"device"`
	Host   bool   `json:"host"` // the namespace nsbpf runs in
}

const qdiscFile = "clsact.ndjson"

// ensureQdisc adds a clsact qdisc to at's device unless there is one.
func (l *Loader) ensureQdisc(c *clsact, at place) error {
	has, err := c.hasQdisc(at.ifindex)
	if err != nil || has {
		return err
	}
	host := l.lab.Topology.Node(at.Node).Netns == ""
	if err := appendRecord(filepath.Join(l.lab.Dir, qdiscFile), qdiscRecord{at.Node, at.Device, host}); err != nil {
		return err
	}
	if _, err := c.addQdisc(at.ifindex); err != nil {
		return fmt.Errorf("add clsact qdisc to %s: %w", at.Place(), err)
	}
	return nil
}

func (c *clsact) hasQdisc(ifindex int) (bool, error) {
	all, err := c.conn.Qdisc().Get()
	if err != nil {
		return false, err
	}
	for _, q := range all {
		if q.Ifindex == uint32(ifindex) && q.Kind == "clsact" {
			return true, nil
		}
	}
	return false, nil
}

func appendRecord(file string, r any) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Close())
}

// cleanQdiscs removes our filters and qdiscs from devices of the host; those of
// the lab's own devices go with them. A qdisc stays while others' filters are in it.
func cleanQdiscs(dir string) error {
	file := filepath.Join(dir, qdiscFile)
	records, err := readRecords[qdiscRecord](file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	self, err := netns.OpenSelf()
	if err != nil {
		return err
	}
	defer self.Close()
	c, err := openClsact(self)
	if err != nil {
		return err
	}
	defer c.Close()
	for _, r := range records {
		if !r.Host {
			continue
		}
		dev, err := deviceIn(self, r.Device)
		if err != nil {
			continue // the device is gone, and the qdisc with it
		}
		if err := c.clean(dev.Attrs().Index); err != nil {
			return fmt.Errorf("removing filters from %s: %w", r.Device, err)
		}
	}
	return os.Remove(file)
}

func (c *clsact) clean(ifindex int) error {
	if has, err := c.hasQdisc(ifindex); err != nil || !has {
		return err
	}
	rest := 0
	for _, d := range []hop.Direction{hop.Ingress, hop.Egress} {
		mine, others, err := c.ours(ifindex, d)
		if err != nil {
			return err
		}
		rest += others
		for _, f := range mine {
			prio, _ := core.SplitHandle(f.Info)
			if err := c.deleteFilter(ifindex, d, uint16(prio), f.Handle); err != nil {
				return err
			}
		}
	}
	if rest > 0 {
		return nil
	}
	return c.deleteQdisc(ifindex)
}

// readRecords reads a file of one JSON value a line; a last line cut short by a
// crash is left out.
func readRecords[T any](file string) ([]T, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []T
	for d := json.NewDecoder(f); ; {
		var r T
		if err := d.Decode(&r); err != nil {
			return out, nil
		}
		out = append(out, r)
	}
}
