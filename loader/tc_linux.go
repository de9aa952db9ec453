package loader

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// tcAttacher attaches to tc hops by tcx, and by clsact once the kernel said that
// it has no tcx.
type tcAttacher struct {
	loader *Loader
	want   Hook // HookNone: choose
	// prio and what are the priority and name of clsact filters.
	prio uint16
	what string

	conns map[*os.File]*clsact
}

// attach returns the link, nil for clsact, and the hook that was used; the
// caller is in at's namespace.
func (t *tcAttacher) attach(p *ebpf.Program, at place, anchor link.Anchor) (link.Link, Hook, error) {
	if t.want != Clsact {
		ln, err := attachTCX(p, at, anchor)
		if err == nil {
			return ln, TCX, nil
		}
		if t.want == TCX || !errors.Is(err, ebpf.ErrNotSupported) {
			return nil, HookNone, err
		}
		t.want = Clsact
	}
	c, err := t.conn(at)
	if err != nil {
		return nil, HookNone, err
	}
	if err := t.loader.touch(c, at); err != nil {
		return nil, HookNone, err
	}
	if err := c.addFilter(p, at, t.prio, clsactOwner(t.loader.lab.Name)+t.what); err != nil {
		return nil, HookNone, fmt.Errorf("attach clsact filter to %s: %w", at.Hop, err)
	}
	return nil, Clsact, nil
}

func (t *tcAttacher) conn(at place) (*clsact, error) {
	if c, ok := t.conns[at.ns]; ok {
		return c, nil
	}
	c, err := openClsact(at.ns)
	if err != nil {
		return nil, err
	}
	if t.conns == nil {
		t.conns = make(map[*os.File]*clsact)
	}
	t.conns[at.ns] = c
	return c, nil
}

// Close closes the connections; attachments stay.
func (t *tcAttacher) Close() error {
	var errs []error
	for _, c := range t.conns {
		errs = append(errs, c.Close())
	}
	t.conns = nil
	return errors.Join(errs...)
}
