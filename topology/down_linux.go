package topology

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nsbpf/nsbpf/internal/netns"
	"github.com/nsbpf/nsbpf/internal/rtnl"
)

// HeldError says that a lab was taken down, but that namespaces of it live on,
// without name and links, because processes are in them.
type HeldError struct {
	Lab       string
	Processes []netns.Process
}

func (e *HeldError) Error() string {
	names := make([]string, len(e.Processes))
	for i, p := range e.Processes {
		names[i] = p.String()
	}
	return fmt.Sprintf("lab %q is down, but still in its namespaces: %s (end them to free the rest)", e.Lab, strings.Join(names, ", "))
}

// DownOptions changes what [Down] does. The zero value is what is usual.
type DownOptions struct {
	// Detach is called with the lab's directory once nothing speaks against
	// taking the lab down, and before anything of it is undone. Its error ends
	// Down.
	Detach func(dir string) error
}

// Down undoes the lab of that name, whether it is up or its up died, and leaves
// the host as it was before it. Only what the lab's journal lists and what
// carries the lab's mark is removed.
//
// The error wraps [ErrNotUp] if there is no such lab. It is a [*HeldError] if
// all is undone, but processes keep a namespace alive.
func Down(ctx context.Context, name string, o DownOptions) (err error) {
	if _, err := os.Stat(runDir); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("lab %q %w", name, ErrNotUp)
	}
	if err := Capable("take down", name); err != nil {
		return err
	}
	l, err := lock(ctx)
	if err != nil {
		return fmt.Errorf("take down lab %q: %w", name, err)
	}
	defer func() { err = errors.Join(err, l.unlock()) }()
	if _, err := Open(name); errors.Is(err, ErrNotUp) {
		return err
	}
	if err := down(name, o); err != nil {
		return fmt.Errorf("take down lab %q: %w", name, err)
	}
	return nil
}

func down(name string, o DownOptions) error {
	r, plan, err := readJournal(name)
	if err != nil && !errors.Is(err, errNoRecord) {
		return err
	}
	k, err := openKernel(name)
	if err != nil {
		return err
	}
	defer k.close()
	if r != nil && r.Host != k.host {
		if k.gone, err = netnsGone(r.Host); err != nil {
			return err
		}
		if !k.gone {
			return elsewhere(r.Host)
		}
		k.host = r.Host
	}
	if o.Detach != nil {
		if err := o.Detach(labDir(name)); err != nil {
			return err
		}
	}
	bpf := filepath.Join(labDir(name), "bpf")
	if mounted, err := netns.MountPoint(bpf); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	} else if mounted {
		return fmt.Errorf("%s is still mounted (its programs must be detached first)", bpf)
	}
	return k.destroy(plan)
}

// elsewhere is the error of a caller that is not in the lab's host namespace.
func elsewhere(host uint64) error {
	return fmt.Errorf("its host is another network namespace, net:[%d] (run nsbpf in there)", host)
}

// netnsGone reports whether no process lives in the namespace.
func netnsGone(id uint64) (bool, error) {
	ps, err := netns.Holders(id)
	return len(ps) == 0, err
}

// destroy undoes the steps of p, which were begun, in reverse, and then forgets
// the lab. It may run again: what is gone is no error. If something cannot be
// undone, the journal stays for another try.
func (k *kernel) destroy(p Plan) error {
	// First of all, so that a destroy that dies leaves a lab that is broken.
	err := os.Remove(filepath.Join(labDir(k.lab), "lab.json"))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	errs := []error{err}
	if !k.gone {
		for _, s := range slices.Backward(p) {
			errs = append(errs, k.undo(s))
		}
	}
	errs = append(errs, k.deleteLinks(p), k.ledger.release(k.host, k.lab, k.gone))
	ids, err := k.deleteNetns(p)
	if err := errors.Join(append(errs, err)...); err != nil {
		return err
	}
	if err := k.forget(); err != nil {
		return err
	}
	k.close() // our own descriptors hold no namespace
	if len(ids) == 0 {
		return nil
	}
	ps, err := netns.Holders(ids...)
	if err == nil && len(ps) > 0 {
		err = &HeldError{Lab: k.lab, Processes: ps}
	}
	return err
}

// undo undoes what would outlive the lab's links and namespaces.
func (k *kernel) undo(s Step) error {
	switch s := s.(type) {
	case AddMasquerade:
		if s.Netns == "" {
			return s.undo()
		}
	case AddAddr:
		if s.Netns == "" && s.Device == "lo" {
			err := k.device("", s.Device, func(c *rtnl.Conn, index int) error { return c.DelAddr(index, s.Addr) })
			if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
				return fmt.Errorf("remove address %s from %q: %w", s.Addr, s.Device, err)
			}
		}
	case AddRoute:
		if s.Netns == "" {
			err := k.spaces[""].conn.DelRoute(s.Dst, s.Via)
			if err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("remove route %s via %s: %w", s.Dst, s.Via, err)
			}
		}
	}
	return nil
}

// deleteLinks removes the lab's devices, in as few messages as it can: each
// costs the kernel a grace period, but an end takes its peer with it. So the
// namespaces with the most devices come first, the host before all.
func (k *kernel) deleteLinks(p Plan) error {
	names, group := p.devices()
	spaces := slices.SortedFunc(maps.Keys(names), func(a, b string) int {
		if a == "" || b == "" {
			return cmp.Compare(a, b)
		}
		return cmp.Or(cmp.Compare(len(names[b]), len(names[a])), cmp.Compare(a, b))
	})
	var errs []error
	for _, name := range spaces {
		if name == "" && k.gone {
			continue
		}
		in, err := k.own(name)
		if err == nil && in != nil {
			err = in.deleteLinks(names[name], group)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// deleteLinks removes the devices of that group that have one of the names.
func (in *space) deleteLinks(names []string, group uint32) error {
	links, err := in.conn.Links()
	if err != nil {
		return err
	}
	var ours []rtnl.Link
	foreign := false
	for _, l := range links {
		switch {
		case l.Group != group:
		case slices.Contains(names, l.Name):
			ours = append(ours, l)
		default:
			foreign = true
		}
	}
	if len(ours) > 0 && !foreign {
		return in.conn.DeleteGroup(group)
	}
	var errs []error
	for _, l := range ours {
		errs = append(errs, in.conn.Delete(l.Index))
	}
	return errors.Join(errs...)
}

// own returns the namespace if it is the host or carries the lab's mark, else
// nil.
func (k *kernel) own(name string) (*space, error) {
	if name == "" {
		return k.space("")
	}
	in, err := k.space(name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, netns.ErrNotMounted) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	m, err := in.conn.Alias(netns.Loopback)
	if err != nil || m != mark(k.lab) {
		return nil, err
	}
	return in, nil
}

// deleteNetns removes the lab's namespaces and returns their identities.
func (k *kernel) deleteNetns(p Plan) (ids []uint64, err error) {
	var errs []error
	for _, s := range slices.Backward(p) {
		add, ok := s.(AddNetns)
		if !ok {
			continue
		}
		in, err := k.own(add.Netns)
		switch {
		case err != nil:
			errs = append(errs, err)
			continue
		case in != nil:
			id, err := netns.ID(in.ns)
			ids = append(ids, id)
			errs = append(errs, err)
		case k.spaces[add.Netns] != nil, !netns.Exists(add.Netns):
			continue // somebody else's, or none
		}
		// A file without a namespace is what an up that died left.
		errs = append(errs, netns.Remove(add.Netns))
	}
	return ids, errors.Join(errs...)
}

// forget removes the lab's directory and, after the last lab, what labs share.
func (k *kernel) forget() error {
	names, err := labNames()
	if err != nil {
		return err
	}
	if len(names) == 1 {
		if was := k.ledger.NetnsDir; was != nil {
			if err := netns.Restore(*was); err != nil {
				return err
			}
		}
		if err := os.Remove(ledgerFile); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(labDir(k.lab))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == "journal" {
			continue // last, so that a crash here can be cleaned up, too
		}
		if err := os.Remove(filepath.Join(labDir(k.lab), e.Name())); err != nil {
			return err
		}
	}
	if err := os.Remove(journalFile(k.lab)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Remove(labDir(k.lab))
}

// devices returns the names of the devices that p makes, by namespace, and
// their group.
func (p Plan) devices() (names map[string][]string, group uint32) {
	names = map[string][]string{}
	for _, s := range p {
		switch s := s.(type) {
		case AddBridge:
			names[s.Netns] = append(names[s.Netns], s.Name)
			group = s.Group
		case AddVeth:
			names[s.A.Netns] = append(names[s.A.Netns], s.A.Name)
			names[s.B.Netns] = append(names[s.B.Netns], s.B.Name)
			group = s.Group
		}
	}
	return names, group
}
