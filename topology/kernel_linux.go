package topology

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"

	"github.com/nsbpf/nsbpf/internal/netns"
	"github.com/nsbpf/nsbpf/internal/rtnl"
)

// kernel does and undoes the steps of one lab. It keeps the namespaces it works
// on open, with a connection each.
type kernel struct {
	lab    string
	host   uint64 // netns.ID of the namespace nsbpf runs in
	gone   bool   // the lab's host exists no more: its half of the lab neither
	begun  Plan   // the steps that the journal has, done or not
	ledger *ledger
	spaces map[string]*space // by name; "" is the host
}

// space is a namespace at work.
type space struct {
	ns    *os.File
	conn  *rtnl.Conn
	watch *rtnl.Watch // nil unless the space was made or asked for by up
}

func openKernel(lab string) (*kernel, error) {
	l, err := readLedger()
	if err != nil {
		return nil, err
	}
	k := &kernel{lab: lab, ledger: l, spaces: map[string]*space{}}
	host, err := k.space("")
	if err != nil {
		return nil, err
	}
	k.host, err = netns.ID(host.ns)
	return k, err
}

func (k *kernel) close() {
	for _, s := range k.spaces {
		s.close()
	}
	clear(k.spaces)
}

func (s *space) close() {
	if s.conn != nil {
		s.conn.Close()
	}
	if s.watch != nil {
		s.watch.Close()
	}
	if s.ns != nil {
		s.ns.Close()
	}
}

// space returns the namespace of that name, opened if it was not yet.
func (k *kernel) space(name string) (*space, error) {
	if s := k.spaces[name]; s != nil {
		return s, nil
	}
	ns, err := openNetns(name)
	if err != nil {
		return nil, err
	}
	conn, err := rtnl.Dial(ns)
	if err != nil {
		ns.Close()
		return nil, err
	}
	k.spaces[name] = &space{ns: ns, conn: conn}
	return k.spaces[name], nil
}

func openNetns(name string) (*os.File, error) {
	if name == "" {
		return netns.OpenSelf()
	}
	return netns.Open(name)
}

// doer is the kernel's half of a [Step]. What do leaves behind when it fails is
// undone, too: see [kernel.destroy].
type doer interface {
	Step
	do(*kernel) error
}

var _ = []doer{AddNetns{}, SetSysctl{}, AddBridge{}, AddVeth{}, AddAddr{}, SetUp{}, AddRoute{}, AddMasquerade{}}

func mark(lab string) string { return "nsbpf:" + lab }

func (s AddNetns) do(k *kernel) error {
	made := &space{}
	inside := func() (err error) {
		if made.conn, err = rtnl.Dial(nil); err != nil {
			return err
		}
		if made.watch, err = rtnl.OpenWatch(nil); err != nil {
			return err
		}
		if err := noDuplicateDetection(); err != nil {
			return err
		}
		return made.conn.SetUp(netns.Loopback)
	}
	var err error
	if made.ns, err = netns.Create(s.Netns, mark(s.Lab), inside); err != nil {
		made.close()
		return err
	}
	k.spaces[s.Netns] = made
	return nil
}

// noDuplicateDetection lets addresses of devices to come be used at once. A
// kernel without IPv6 has nothing to turn off.
func noDuplicateDetection() error {
	for _, conf := range []string{"all", "default"} {
		err := writeSysctl("/proc/sys/net/ipv6/conf/"+conf+"/accept_dad", "0")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (s SetSysctl) do(k *kernel) (err error) {
	if s.Netns == "" {
		err = k.ledger.set(k.host, k.lab, s)
	} else {
		var in *space
		if in, err = k.space(s.Netns); err == nil {
			err = netns.Do(in.ns, func() error { return writeSysctl(s.Path(), s.Value) })
		}
	}
	if err != nil {
		return fmt.Errorf("set sysctl %s=%q%s: %w", s.Key, s.Value, where(s.Netns), err)
	}
	return nil
}

func (s AddBridge) do(k *kernel) error {
	err := func() error {
		in, err := k.space(s.Netns)
		if err != nil {
			return err
		}
		mac, err := net.ParseMAC(s.MAC)
		if err != nil {
			return err
		}
		if err := in.conn.AddBridge(rtnl.Bridge{Name: s.Name, MAC: mac, Group: s.Group}); err != nil {
			return err
		}
		return in.finish(VethEnd{Name: s.Name, AltName: s.AltName})
	}()
	if err != nil {
		return fmt.Errorf("add bridge %q%s: %w", s.Name, where(s.Netns), err)
	}
	return nil
}

func (s AddVeth) do(k *kernel) error {
	near, far := s.A, s.B
	if near.Netns == "" {
		near, far = far, near
	}
	if err := s.pair(k, near, far); err != nil {
		return fmt.Errorf("add veth pair %q%s, %q%s: %w", s.A.Name, where(s.A.Netns), s.B.Name, where(s.B.Netns), err)
	}
	return nil
}

func (s AddVeth) pair(k *kernel, near, far VethEnd) error {
	in, err := k.space(near.Netns)
	if err != nil {
		return err
	}
	peer, err := k.space(far.Netns)
	if err != nil {
		return err
	}
	v := rtnl.Veth{
		Name: near.Name, Index: near.Index,
		Peer: far.Name, PeerIndex: far.Index, PeerNS: peer.ns,
		MTU: s.MTU, Group: s.Group, QueuesRx: 1, QueuesTx: 1,
	}
	if err := in.conn.AddVeth(v); err != nil {
		return err
	}
	return errors.Join(in.finish(near), peer.finish(far))
}

// finish does for a new device what the message that made it could not.
func (in *space) finish(e VethEnd) error {
	if e.AltName == "" && e.Master == "" {
		return nil
	}
	index, err := in.conn.Index(e.Name)
	if err != nil {
		return err
	}
	if e.AltName != "" {
		if err := in.conn.AddAltName(index, e.AltName); err != nil {
			return fmt.Errorf("altname %q: %w", e.AltName, err)
		}
	}
	if e.Master == "" {
		return nil
	}
	master, err := in.conn.Index(e.Master)
	if err != nil {
		return err
	}
	if err := in.conn.SetPort(index, master); err != nil {
		return fmt.Errorf("port of %q: %w", e.Master, err)
	}
	return nil
}

func (s AddAddr) do(k *kernel) error {
	err := k.device(s.Netns, s.Device, func(c *rtnl.Conn, index int) error { return c.AddAddr(index, s.Addr) })
	if err != nil {
		return fmt.Errorf("add address %s to %q%s: %w", s.Addr, s.Device, where(s.Netns), err)
	}
	return nil
}

func (s SetUp) do(k *kernel) error {
	err := k.device(s.Netns, s.Device, (*rtnl.Conn).SetUp)
	if err != nil {
		return fmt.Errorf("bring up %q%s: %w", s.Device, where(s.Netns), err)
	}
	return nil
}

func (s AddRoute) do(k *kernel) error {
	in, err := k.space(s.Netns)
	if err == nil {
		err = in.conn.AddRoute(s.Dst, s.Via)
	}
	if err != nil {
		return fmt.Errorf("add route %s via %s%s: %w", s.Dst, s.Via, where(s.Netns), err)
	}
	return nil
}

// device calls fn for a device.
func (k *kernel) device(space, name string, fn func(*rtnl.Conn, int) error) error {
	in, err := k.space(space)
	if err != nil {
		return err
	}
	index, err := in.conn.Index(name)
	if err != nil {
		return err
	}
	return fn(in.conn, index)
}

// where returns " in NETNS" for messages; nothing for the host.
func where(space string) string {
	if space == "" {
		return ""
	}
	return " in " + space
}

// apply does the steps in order, each noted in the journal first. It calls
// attach before the first device comes up.
func (k *kernel) apply(ctx context.Context, j *journal, p Plan, o UpOptions, attach func() error) error {
	firstUp := slices.IndexFunc(p, func(s Step) bool { _, ok := s.(SetUp); return ok })
	for i, s := range p {
		if i == firstUp {
			if err := attach(); err != nil {
				return err
			}
			o.at("attached")
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if o.Progress != nil {
			o.Progress(i+1, len(p), s)
		}
		if err := j.begin(s); err != nil {
			return err
		}
		k.begun = append(k.begun, s)
		o.at("begun")
		d, ok := s.(doer)
		if !ok {
			return fmt.Errorf("step %T cannot be done", s)
		}
		if err := d.do(k); err != nil {
			return err
		}
		o.at("done")
	}
	return nil
}
