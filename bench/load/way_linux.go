package load

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/internal/rtnl"
)

// way is the path of frames that a program makes, as the kernel has it.
type way struct {
	from, first, to Place // first is where they come in, or go up
	up              bool
	ifindex         int // of the device that they go out of, or that they go up at
	firstDev, toDev rtnl.Device
	adjacent        bool // first is to
	frame           frame
	before          rtnl.Device
}

// madeUp is the address that frames have if they come from no device.
var madeUp = net.HardwareAddr{0x02, 'n', 's', 'b', 'p', 'f'}

// survey looks at the devices of the path, and refuses one that cannot work.
func (r *running) survey() (*way, error) {
	w := &way{from: r.From, first: r.To, to: r.To, up: r.Mode == SKB, adjacent: true}
	if len(r.Via) > 0 {
		w.first, w.adjacent = r.Via[0], false
	}
	firstAll, err := devices(w.first)
	if err != nil {
		return nil, err
	}
	if w.firstDev, err = find(firstAll, w.first); err != nil {
		return nil, err
	}
	toAll, err := devices(w.to)
	if err != nil {
		return nil, err
	}
	if w.toDev, err = find(toAll, w.to); err != nil {
		return nil, err
	}
	w.ifindex = w.firstDev.Index
	w.frame = frame{srcMAC: madeUp, src: r.From.Addr, dst: r.To.Addr, dport: r.Port}
	var subnets []netip.Prefix
	if r.From.Device != "" {
		if subnets, err = w.depart(r.From); err != nil {
			return nil, err
		}
	}
	if !w.frame.src.IsValid() {
		return nil, fmt.Errorf("%s has no address of the family of %s (add one, or name the source)", r.From, r.To.Addr)
	}
	w.frame.dstMAC = w.nextMAC(firstAll, subnets)
	return w, nil
}

// depart enters what the sender's device says, and returns its networks.
func (w *way) depart(from Place) ([]netip.Prefix, error) {
	all, err := devices(from)
	if err != nil {
		return nil, err
	}
	dev, err := find(all, from)
	if err != nil {
		return nil, err
	}
	w.frame.srcMAC = dev.MAC
	if dev.Kind == "veth" && (dev.Peer != w.firstDev.Index || w.firstDev.Peer != dev.Index) || dev.Kind != "veth" && !w.up {
		return nil, fmt.Errorf("%s is no veth end whose peer is %s (frames go from one end of a veth pair to the other; name the places between)", from, w.first)
	}
	if !w.up {
		w.ifindex = dev.Index
	}
	c, err := rtnl.Dial(from.Netns)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	addrs, err := c.Addrs()
	if err != nil {
		return nil, err
	}
	var subnets []netip.Prefix
	for _, a := range addrs {
		if a.Index != dev.Index || a.Prefix.Addr().Is6() != w.frame.dst.Is6() {
			continue
		}
		subnets = append(subnets, a.Prefix.Masked())
		if !w.frame.src.IsValid() && !a.Prefix.Addr().IsLinkLocalUnicast() {
			w.frame.src = a.Prefix.Addr()
		}
	}
	return subnets, nil
}

// nextMAC returns the address that the sender's stack would send frames to: of the
// destination on the same link, or of the node that routes.
func (w *way) nextMAC(first []rtnl.Device, subnets []netip.Prefix) net.HardwareAddr {
	direct := slices.ContainsFunc(subnets, func(p netip.Prefix) bool { return p.Contains(w.frame.dst) })
	i := slices.IndexFunc(first, func(d rtnl.Device) bool { return d.Index == w.firstDev.Master })
	switch {
	case w.adjacent, i >= 0 && (direct || len(subnets) == 0):
		return w.toDev.MAC
	case i >= 0:
		return first[i].MAC
	}
	return w.firstDev.MAC
}

// prepare attaches what takes the frames at the end, and what the veth end needs
// at which they come in.
func (w *way) prepare() (*sink, error) {
	spec, err := only(bpf.ProgSinkXDP, bpf.ProgSinkTC, bpf.ProgPassXDP)
	if err != nil {
		return nil, err
	}
	coll, err := ebpf.NewCollection(spec)
	if err != nil {
		return nil, fmt.Errorf("load the sink: %w", err)
	}
	s := &sink{coll: coll}
	if !w.up && w.adjacent && w.firstDev.XDP == 0 {
		s.kind = sinkXDP
		return s, s.attach(w.to, w.toDev.Index, bpf.ProgSinkXDP, sinkXDP)
	}
	if !w.up && w.firstDev.XDP == 0 {
		if err := s.attach(w.first, w.firstDev.Index, bpf.ProgPassXDP, sinkXDP); err != nil {
			return s, err
		}
	}
	s.kind = sinkTCX
	err = s.attach(w.to, w.toDev.Index, bpf.ProgSinkTC, sinkTCX)
	if errors.Is(err, ebpf.ErrNotSupported) {
		s.kind = sinkGeneric
		err = s.attach(w.to, w.toDev.Index, bpf.ProgSinkXDP, sinkGeneric)
	}
	return s, err
}

// inside returns the namespace that generators run in, self if it is the caller's.
func (w *way) inside(self *os.File) *os.File {
	at := w.from
	if w.up {
		at = w.first
	}
	if at.Netns == nil {
		return self
	}
	return at.Netns
}

// readDevices notes the counters of the device that frames go out of.
func (w *way) readDevices() (err error) {
	if w.up {
		return nil
	}
	all, err := devices(w.from)
	if err == nil {
		w.before, err = find(all, w.from)
	}
	return err
}

// countDevices enters what the veth pair did not take: its ring was full. These
// are no skbs, so the kernel's tracepoint does not see them.
func (r *running) countDevices(w *way) error {
	const txDropped = 7 // of struct rtnl_link_stats64
	before := w.before
	if err := w.readDevices(); err != nil || w.up {
		return err
	}
	if len(before.Stats) <= txDropped || len(w.before.Stats) <= txDropped {
		return nil
	}
	if n := w.before.Stats[txDropped] - before.Stats[txDropped]; n > 0 {
		r.out.Lost = append(r.out.Lost, Loss{Place: "veth", Node: r.From.Node, Reason: "ring full", Packets: n})
	}
	return nil
}

func devices(p Place) ([]rtnl.Device, error) {
	c, err := rtnl.Dial(p.Netns)
	if err != nil {
		return nil, fmt.Errorf("look at %s: %w", p, err)
	}
	defer c.Close()
	return c.Devices()
}

func find(all []rtnl.Device, p Place) (rtnl.Device, error) {
	i := slices.IndexFunc(all, func(d rtnl.Device) bool { return d.Name == p.Device })
	switch {
	case i < 0:
		return rtnl.Device{}, fmt.Errorf("%s has no device %q", p.Node, p.Device)
	case !all[i].Up || !all[i].Running:
		return rtnl.Device{}, fmt.Errorf("%s is not up (`ip link set %s up`, at both ends)", p, p.Device)
	}
	return all[i], nil
}
