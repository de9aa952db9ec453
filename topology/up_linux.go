package topology

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsbpf/nsbpf/internal/netns"
	"github.com/nsbpf/nsbpf/internal/rtnl"
)

// UpOptions modify [Up].
type UpOptions struct {
	// Progress, if set, is called before each step, counted from 1.
	Progress func(step, of int, s Step)
	// Attach, if set, is called when every device exists and before one is up,
	// so that what it attaches sees the first packet of every device. Its error
	// ends Up. Of the Lab only names, Topology and Dir are of use to it.
	Attach func(ctx context.Context, l *Lab) error
	// Detach undoes Attach if Up fails after it; see [DownOptions].
	Detach func(dir string) error

	// probe is called at each point where a crash leaves something else behind.
	probe func(point string)
}

func (o UpOptions) at(point string) {
	if o.probe != nil {
		o.probe(point)
	}
}

// Up builds t and returns its lab once the network works: links up, ports
// forwarding, addresses usable.
//
// Nothing is changed if anything of t's exists already; the error then is a
// [*CollisionError]. If a step fails or ctx ends, what was done is undone, and
// both errors are returned joined. If the lab is up, it is returned together
// with an error that wraps [ErrUp]; remains of one give an error that wraps
// [ErrBroken]. Up needs CAP_NET_ADMIN and CAP_SYS_ADMIN.
func Up(ctx context.Context, t *Topology, o UpOptions) (lab *Lab, err error) {
	if err := Capable("bring up", t.Name); err != nil {
		return nil, err
	}
	l, err := lock(ctx)
	if err != nil {
		return nil, fmt.Errorf("bring up lab %q: %w", t.Name, err)
	}
	defer func() { err = errors.Join(err, l.unlock()) }()
	if lab, err := openExisting(t.Name); lab != nil || err != nil {
		return lab, err
	}
	k, err := openKernel(t.Name)
	if err != nil {
		return nil, fmt.Errorf("bring up lab %q: %w", t.Name, err)
	}
	defer k.close()
	plan := t.Plan()
	if err := k.preflight(plan); err != nil {
		return nil, err
	}
	r := &record{Schema: recordSchema, Name: t.Name, Created: time.Now().UnixNano(), Host: k.host, Topology: t}
	if err := k.up(ctx, r, plan, o); err != nil {
		err = fmt.Errorf("bring up lab %q: %w", t.Name, err)
		if undone := k.unwind(o); undone != nil {
			err = errors.Join(err, fmt.Errorf("undo what was done: %w", undone))
		}
		return nil, err
	}
	return r.lab(StateUp), nil
}

// unwind undoes what up did.
func (k *kernel) unwind(o UpOptions) error {
	if o.Detach != nil {
		if err := o.Detach(labDir(k.lab)); err != nil {
			return err
		}
	}
	return k.destroy(k.begun)
}

// openExisting returns the lab of that name with [ErrUp] or [ErrBroken], or
// nothing if there is none. The caller holds the lock.
func openExisting(name string) (*Lab, error) {
	lab, err := Open(name)
	switch {
	case errors.Is(err, ErrNotUp):
		return nil, nil
	case err != nil:
		return nil, err
	case lab.State == StateUp:
		return lab, fmt.Errorf("lab %q %w", name, ErrUp)
	}
	return lab, fmt.Errorf("lab %q %w (run nsbpf down %s first)", name, ErrBroken, name)
}

// up does what [Up] does, but for undoing.
func (k *kernel) up(ctx context.Context, r *record, p Plan, o UpOptions) error {
	j, err := createJournal(r)
	if err != nil {
		return err
	}
	defer j.close()
	o.at("journal")
	if k.ledger.NetnsDir == nil {
		was, err := netns.StatDir()
		if err != nil {
			return err
		}
		k.ledger.NetnsDir = &was
		if err := k.ledger.save(); err != nil {
			return err
		}
	}
	o.at("ledger")
	if err := netns.Prepare(); err != nil {
		return err
	}
	o.at("prepared")
	if host := k.spaces[""]; host.watch == nil {
		if host.watch, err = rtnl.OpenWatch(nil); err != nil {
			return err
		}
	}
	attach := func() error {
		if o.Attach == nil {
			return nil
		}
		return o.Attach(ctx, r.lab(StateBusy))
	}
	if err := k.apply(ctx, j, p, o, attach); err != nil {
		return err
	}
	if err := k.ready(ctx, p); err != nil {
		return err
	}
	o.at("ready")
	return writeFile(filepath.Join(labDir(r.Name), "lab.json"), r)
}

// Capable returns an error that names the capabilities that are missing to work
// on a lab, or nil. It wraps [fs.ErrPermission]; doing is what it starts with.
func Capable(doing, lab string) error {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&head, &caps[0]); err != nil {
		return fmt.Errorf("read own capabilities: %w", err)
	}
	var missing []string
	for _, c := range []struct {
		bit  uint
		name string
	}{{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"}, {unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN"}} {
		if caps[0].Effective>>c.bit&1 == 0 {
			missing = append(missing, c.name)
		}
	}
	if missing == nil {
		return nil
	}
	return fmt.Errorf("%s lab %q: %w: %s missing (run it with sudo)", doing, lab, fs.ErrPermission, strings.Join(missing, " and "))
}
