package loader

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/internal/rcu"
)

// Attachment is a program on a hop.
type Attachment struct {
	Hop  hop.Hop `json:"hop"`
	Hook Hook    `json:"hook"`
}

const attachmentsFile = "attachments.json"

// Attachments returns the hops that have counters of their own, in order of hop
// ID: those of the count programs, and those where only an XDP filter stands.
// There are none if AttachCount was not called.
func (l *Loader) Attachments() ([]Attachment, error) {
	as, err := l.countAttachments()
	if err != nil {
		return nil, err
	}
	filters, err := l.Filters()
	if err != nil {
		return nil, err
	}
	for _, f := range filters {
		counted := slices.ContainsFunc(as, func(a Attachment) bool { return a.Hop.ID == f.Hop.ID })
		if !counted {
			as = append(as, Attachment{Hop: f.Hop, Hook: f.Hook})
		}
	}
	sortByHop(as)
	return as, nil
}

func sortByHop(as []Attachment) {
	slices.SortFunc(as, func(a, b Attachment) int { return cmp.Compare(a.Hop.ID, b.Hop.ID) })
}

func (l *Loader) countAttachments() ([]Attachment, error) {
	b, err := os.ReadFile(filepath.Join(l.lab.Dir, attachmentsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var as []Attachment
	if err := json.Unmarshal(b, &as); err != nil {
		return nil, fmt.Errorf("reading %s: %w", attachmentsFile, err)
	}
	return as, nil
}

// countHook returns the hook of the hop's count program.
func (l *Loader) countHook(id hop.ID) (Hook, error) {
	as, err := l.countAttachments()
	for _, a := range as {
		if a.Hop.ID == id {
			return a.Hook, nil
		}
	}
	return HookNone, err
}

// AttachCount puts a count program on every tc hop of the lab and, if asked, on
// every XDP hop, and pins programs and counters so that they outlive the
// process. It returns what hook each hop got, in order of hop ID.
//
// A lab is counted once. What a killed AttachCount left is removed first, and on
// error everything is detached again. The error wraps [ebpf.ErrNotSupported] if
// a hook that was asked for is not to be had.
func (l *Loader) AttachCount(ctx context.Context, hooks Hooks) (_ []Attachment, err error) {
	unlock, err := lock(l.lab.Dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if _, err := os.Stat(l.pin(bpf.MapCounts)); err == nil {
		return nil, fmt.Errorf("lab %q is counted already", l.lab.Name)
	}
	defer rcu.Expedite()()
	if _, err := os.Stat(l.dir); err == nil {
		if err := l.clean(); err != nil {
			return nil, err
		}
	}
	if err := mountBPFFS(l.dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.clean())
		}
	}()
	return l.attachCount(ctx, hooks)
}

// attachCount pins the counters last: who finds them finds all.
func (l *Loader) attachCount(ctx context.Context, hooks Hooks) ([]Attachment, error) {
	var tcHops, xdpHops []hop.Hop
	for _, h := range l.lab.Topology.Hops(true) {
		if h.Layer == hop.XDP {
			xdpHops = append(xdpHops, h)
		} else {
			tcHops = append(tcHops, h)
		}
	}
	counts, err := newCounts(len(tcHops) + len(xdpHops))
	if err != nil {
		return nil, err
	}
	defer counts.Close()
	tc := tcAttacher{loader: l, want: hooks.TC, prio: prioCount, what: "count"}
	defer tc.Close()
	as, err := l.countAt(ctx, bpf.ProgCountTC, tcHops, counts, func(p *ebpf.Program, at place) (link.Link, Hook, error) {
		return tc.attach(p, at, link.Head())
	})
	if err != nil {
		return nil, err
	}
	if hooks.XDP != HookNone {
		more, err := l.countAt(ctx, bpf.ProgCountXDP, xdpHops, counts, func(p *ebpf.Program, at place) (link.Link, Hook, error) {
			ln, err := attachXDP(p, at, hooks.XDP)
			return ln, hooks.XDP, err
		})
		if err != nil {
			return nil, err
		}
		as = append(as, more...)
	}
	sortByHop(as)
	if err := l.writeFile(attachmentsFile, as); err != nil {
		return nil, err
	}
	if err := counts.Pin(l.pin(bpf.MapCounts)); err != nil {
		return nil, fmt.Errorf("pinning counters: %w", err)
	}
	return as, nil
}

// newCounts makes the counters of n hops.
func newCounts(n int) (*ebpf.Map, error) {
	spec, err := bpf.CountSpec()
	if err != nil {
		return nil, err
	}
	ms := spec.Maps[bpf.MapCounts]
	ms.MaxEntries = uint32(n) * uint32(bpf.ReasonCount)
	m, err := ebpf.NewMap(ms)
	if err != nil {
		return nil, fmt.Errorf("making counters: %w", err)
	}
	return m, nil
}

// countAt attaches and pins a copy of count program prog at each of hops.
func (l *Loader) countAt(
	ctx context.Context, prog string, hops []hop.Hop, counts *ebpf.Map,
	attach func(*ebpf.Program, place) (link.Link, Hook, error),
) ([]Attachment, error) {
	ps, err := l.resolve(hops)
	if err != nil {
		return nil, err
	}
	defer ps.Close()
	coll, err := loadCount(prog, ps, counts)
	if err != nil {
		return nil, err
	}
	defer coll.Close()
	var as []Attachment
	err = ps.each(func(at place) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		ln, used, err := attach(coll.Programs[bpf.CopyName(prog, at.ID)], at)
		if err != nil {
			return err
		}
		as = append(as, Attachment{Hop: at.Hop, Hook: used})
		return l.pinLink(ln, countPin(at.ID))
	})
	return as, err
}

func loadCount(prog string, ps *places, counts *ebpf.Map) (*ebpf.Collection, error) {
	spec, err := bpf.CountSpec()
	if err != nil {
		return nil, err
	}
	return loadCopies(spec, prog, ps, map[string]*ebpf.Map{bpf.MapCounts: counts})
}

// Counts returns the lab's counters; the caller closes them. The error wraps
// [fs.ErrNotExist] if nothing counts in this lab.
func (l *Loader) Counts() (*ebpf.Map, error) {
	m, err := ebpf.LoadPinnedMap(l.pin(bpf.MapCounts), &ebpf.LoadPinOptions{ReadOnly: true})
	if err != nil {
		return nil, fmt.Errorf("opening the counters of lab %q: %w", l.lab.Name, err)
	}
	return m, nil
}
