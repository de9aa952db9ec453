package loader

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/internal/netns"
)

// Filter is a user's expression that drops packets at one hop.
type Filter struct {
	ID   int     `json:"id"` // from 1, not used again while the lab is up
	Hop  hop.Hop `json:"hop"`
	Hook Hook    `json:"hook"`
	Expr string  `json:"expr"`
}

// FilterCount is what a [Filter] did so far, in packets.
type FilterCount struct {
	Matched uint64 // dropped
	Unread  uint64 // passed, because the headers could not be read
}

// ErrNoFilter says that there is no filter of that ID.
var ErrNoFilter = errors.New("no such filter")

const filtersFile = "filters.json"

// filterBook is what stands in filtersFile. A filter is written down before it
// is attached and struck out after it is detached.
type filterBook struct {
	Last    int      `json:"last"`
	Filters []Filter `json:"filters"`
}

func (l *Loader) readFilters() (filterBook, error) {
	var book filterBook
	b, err := os.ReadFile(filepath.Join(l.lab.Dir, filtersFile))
	if errors.Is(err, fs.ErrNotExist) {
		return book, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &book)
	}
	if err != nil {
		return book, fmt.Errorf("reading %s: %w", filtersFile, err)
	}
	return book, nil
}

// Filters returns the lab's filters in the order in which they were added.
func (l *Loader) Filters() ([]Filter, error) {
	book, err := l.readFilters()
	return book.Filters, err
}

// AddFilter drops at f.Hop what match, the compiled f.Expr, matches. f.Hook must
// fit the hop's layer, or be HookNone for tc. The lab must have been given
// counters by AttachCount. The result is f with its ID and the hook that was used.
func (l *Loader) AddFilter(f Filter, match asm.Instructions) (_ Filter, err error) {
	counts, err := ebpf.LoadPinnedMap(l.pin(bpf.MapCounts), nil)
	if err != nil {
		return f, fmt.Errorf("opening the counters of lab %q: %w (bring it up without --no-count)", l.lab.Name, err)
	}
	defer counts.Close()
	unlock, err := l.lock()
	if err != nil {
		return f, err
	}
	defer unlock()
	book, err := l.readFilters()
	if err != nil {
		return f, err
	}
	if f.Hop.Layer == hop.XDP {
		for _, o := range book.Filters {
			if o.Hop.ID == f.Hop.ID {
				return f, fmt.Errorf("adding a filter to %s: filter %d is there, and XDP has room for one (remove it and join the expressions with or, or use --hook tcx)", f.Hop, o.ID)
			}
		}
	}
	ps, err := l.resolve([]hop.Hop{f.Hop})
	if err != nil {
		return f, err
	}
	defer ps.Close()

	f.ID = book.Last + 1
	if err := l.writeFile(filtersFile, filterBook{f.ID, append(slices.Clone(book.Filters), f)}); err != nil {
		return f, err
	}
	if f.Hook, err = l.attachFilter(f, match, ps, counts); err != nil {
		return f, errors.Join(err, l.unpinFilter(f.ID), l.writeFile(filtersFile, book))
	}
	return f, l.writeFile(filtersFile, filterBook{f.ID, append(slices.Clone(book.Filters), f)})
}

func filterPin(id int) string   { return fmt.Sprintf("filter-%d", id) }
func outcomesPin(id int) string { return fmt.Sprintf("filter-%d-outcomes", id) }

func (l *Loader) unpinFilter(id int) error {
	var errs []error
	for _, name := range []string{filterPin(id), outcomesPin(id)} {
		if err := os.Remove(l.pin(name)); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (l *Loader) attachFilter(f Filter, match asm.Instructions, ps *places, counts *ebpf.Map) (used Hook, err error) {
	prog := bpf.ProgFilterTC
	if f.Hop.Layer == hop.XDP {
		prog = bpf.ProgFilterXDP
	}
	spec, err := bpf.FilterSpec()
	if err != nil {
		return HookNone, err
	}
	if err := bpf.SetMatch(spec, match); err != nil {
		return HookNone, err
	}
	coll, err := loadCopies(spec, prog, ps, map[string]*ebpf.Map{bpf.MapCounts: counts})
	if err != nil {
		return HookNone, err
	}
	defer coll.Close()
	if err := coll.Maps[bpf.MapOutcomes].Pin(l.pin(outcomesPin(f.ID))); err != nil {
		return HookNone, err
	}
	p := coll.Programs[bpf.CopyName(prog, f.Hop.ID)]
	if f.Hop.Layer == hop.XDP {
		return l.attachFilterXDP(f, p, ps.all[0])
	}
	t := tcAttacher{loader: l, want: f.Hook, prio: prioFilter, handle: uint32(f.ID)}
	defer t.Close()
	err = ps.each(func(at place) error {
		anchor, err := l.beforeCount(at)
		if err != nil {
			return err
		}
		ln, h, err := t.attach(p, at, anchor)
		used = h
		if err != nil {
			return err
		}
		return l.pinLink(ln, filterPin(f.ID))
	})
	return used, err
}

// beforeCount says where a tcx filter goes: what it drops is not counted as
// passed, and a trace that runs sees it.
func (l *Loader) beforeCount(at place) (link.Anchor, error) {
	ln, err := link.LoadPinnedLink(l.pin(countPin(at.ID)), nil)
	if errors.Is(err, fs.ErrNotExist) {
		return link.Tail(), nil // counted by clsact
	}
	if err != nil {
		return nil, err
	}
	defer ln.Close()
	inf, err := ln.Info()
	if err != nil {
		return nil, err
	}
	return link.BeforeLinkByID(inf.ID), nil
}

// attachFilterXDP takes the place of the XDP count program, if there is one: the
// filter counts too.
func (l *Loader) attachFilterXDP(f Filter, p *ebpf.Program, at place) (used Hook, err error) {
	ln, err := link.LoadPinnedLink(l.pin(countPin(f.Hop.ID)), nil)
	if err == nil {
		defer ln.Close()
		return l.hookOf(f.Hop.ID), ln.Update(p)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return HookNone, err
	}
	err = netns.Do(at.ns, func() error {
		ln, err := attachXDP(p, at, f.Hook)
		if err != nil {
			return err
		}
		return l.pinLink(ln, filterPin(f.ID))
	})
	return f.Hook, err
}

// hookOf returns the hook of the hop's count program.
func (l *Loader) hookOf(id hop.ID) Hook {
	as, _ := l.countAttachments()
	for _, a := range as {
		if a.Hop.ID == id {
			return a.Hook
		}
	}
	return HookNone
}

// RemoveFilter detaches a filter. The error is [ErrNoFilter] if there is none.
func (l *Loader) RemoveFilter(id int) error {
	unlock, err := l.lock()
	if err != nil {
		return err
	}
	defer unlock()
	book, err := l.readFilters()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(book.Filters, func(f Filter) bool { return f.ID == id })
	if i < 0 {
		return ErrNoFilter
	}
	if err := l.detachFilter(book.Filters[i]); err != nil {
		return err
	}
	if err := l.unpinFilter(id); err != nil {
		return err
	}
	book.Filters = slices.Delete(book.Filters, i, i+1)
	return l.writeFile(filtersFile, book)
}

func (l *Loader) detachFilter(f Filter) error {
	_, err := os.Stat(l.pin(filterPin(f.ID)))
	if err == nil {
		return nil // unpinning the link detaches it
	}
	ps, err := l.resolve([]hop.Hop{f.Hop})
	if err != nil {
		return err
	}
	defer ps.Close()
	if f.Hop.Layer == hop.XDP {
		return l.restoreCountXDP(ps)
	}
	t := tcAttacher{loader: l, prio: prioFilter, handle: uint32(f.ID)}
	defer t.Close()
	return ps.each(t.detach)
}

// restoreCountXDP puts the count program back in the filter's place.
func (l *Loader) restoreCountXDP(ps *places) error {
	at := ps.all[0]
	ln, err := link.LoadPinnedLink(l.pin(countPin(at.ID)), nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer ln.Close()
	counts, err := ebpf.LoadPinnedMap(l.pin(bpf.MapCounts), nil)
	if err != nil {
		return err
	}
	defer counts.Close()
	spec, err := bpf.CountSpec()
	if err != nil {
		return err
	}
	coll, err := loadCopies(spec, bpf.ProgCountXDP, ps, map[string]*ebpf.Map{bpf.MapCounts: counts})
	if err != nil {
		return err
	}
	defer coll.Close()
	return ln.Update(coll.Programs[bpf.CopyName(bpf.ProgCountXDP, at.ID)])
}

// CountFilter returns what the filter did so far.
func (l *Loader) CountFilter(id int) (FilterCount, error) {
	m, err := ebpf.LoadPinnedMap(l.pin(outcomesPin(id)), &ebpf.LoadPinOptions{ReadOnly: true})
	if err != nil {
		return FilterCount{}, fmt.Errorf("opening the counters of filter %d: %w", id, err)
	}
	defer m.Close()
	var sums [bpf.OutcomeCount]uint64
	for i := range sums {
		var perCPU []uint64
		if err := m.Lookup(uint32(i), &perCPU); err != nil {
			return FilterCount{}, err
		}
		for _, n := range perCPU {
			sums[i] += n
		}
	}
	return FilterCount{Matched: sums[bpf.OutcomeMatched], Unread: sums[bpf.OutcomeUnread]}, nil
}
