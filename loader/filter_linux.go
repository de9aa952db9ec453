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
	"github.com/nsbpf/nsbpf/internal/rcu"
)

// Filter is a user's expression that drops packets at one hop.
type Filter struct {
	ID   int     `json:"id"` // from 1, not used again while the lab is up
	Hop  hop.Hop `json:"hop"`
	Hook Hook    `json:"hook"` // HookNone, if adding it was killed
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
// counters by AttachCount. The result is f with its ID and the hook that was
// used: at an XDP hop that is counted, the count program's.
func (l *Loader) AddFilter(f Filter, match asm.Instructions) (_ Filter, err error) {
	unlock, err := lock(l.lab.Dir)
	if err != nil {
		return f, err
	}
	defer unlock()
	counts, err := ebpf.LoadPinnedMap(l.pin(bpf.MapCounts), nil)
	if err != nil {
		return f, fmt.Errorf("opening the counters of lab %q: %w (bring it up without --no-count)", l.lab.Name, err)
	}
	defer counts.Close()
	book, err := l.readFilters()
	if err == nil {
		err = l.checkFilter(f, book)
	}
	if err != nil {
		return f, err
	}
	ps, err := l.resolve([]hop.Hop{f.Hop})
	if err != nil {
		return f, err
	}
	defer ps.Close()

	hook := f.Hook
	f.ID, f.Hook = book.Last+1, HookNone
	with := func() filterBook { return filterBook{f.ID, append(slices.Clone(book.Filters), f)} }
	if err := l.writeFile(filtersFile, with()); err != nil {
		return f, err
	}
	if f.Hook, err = l.attachFilter(f, hook, match, ps, counts); err == nil {
		err = l.writeFile(filtersFile, with())
	}
	if err != nil {
		return f, errors.Join(err, l.detachFilter(f), l.writeFile(filtersFile, filterBook{f.ID, book.Filters}))
	}
	return f, nil
}

// checkFilter returns why f cannot be added.
func (l *Loader) checkFilter(f Filter, book filterBook) error {
	if f.Hop.Layer == hop.XDP {
		if f.Hook.layer() != hop.XDP {
			return fmt.Errorf("adding a filter to %s: hook %s is none of XDP (want %s or %s)", f.Hop, f.Hook, XDPNative, XDPGeneric)
		}
		for _, o := range book.Filters {
			if o.Hop.ID == f.Hop.ID {
				return fmt.Errorf("adding a filter to %s: filter %d is there, and XDP has room for one (remove it and join the expressions with or, or use --hook tcx)", f.Hop, o.ID)
			}
		}
		return nil
	}
	if f.Hook.layer() != hop.TC {
		return fmt.Errorf("adding a filter to %s: hook %s is none of tc (want %s or %s)", f.Hop, f.Hook, TCX, Clsact)
	}
	counted, err := l.countHook(f.Hop.ID)
	if f.Hook == Clsact && counted == TCX {
		return fmt.Errorf("adding a filter to %s: it is counted by tcx, which runs before clsact, so what the filter drops would count as passed (leave out --hook, or bring the lab up with --hook clsact)", f.Hop)
	}
	return err
}

// attachFilter attaches and pins f by hook, and returns the hook that was used.
func (l *Loader) attachFilter(f Filter, hook Hook, match asm.Instructions, ps *places, counts *ebpf.Map) (used Hook, err error) {
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
		return HookNone, fmt.Errorf("pinning the counters of filter %d: %w", f.ID, err)
	}
	p := coll.Programs[bpf.CopyName(prog, f.Hop.ID)]
	tc := tcAttacher{loader: l, want: hook, prio: prioFilter, what: filterWhat(f.ID)}
	defer tc.Close()
	defer rcu.Expedite()()
	err = ps.each(func(at place) error {
		var ln link.Link
		if f.Hop.Layer == hop.XDP {
			ln, used, err = l.attachFilterXDP(p, at, hook)
		} else {
			ln, used, err = l.attachFilterTC(&tc, p, at)
		}
		if err != nil {
			return err
		}
		return l.pinLink(ln, filterPin(f.ID))
	})
	return used, err
}

// filterWhat names a clsact filter of ours among those of its lab.
func filterWhat(id int) string { return fmt.Sprintf("filter/%d", id) }

// attachFilterTC puts p before the count program and behind other filters and
// traces: what it drops is not counted as passed, and a trace that runs sees it,
// unless that stands in the place of the count program; see standins.
func (l *Loader) attachFilterTC(tc *tcAttacher, p *ebpf.Program, at place) (link.Link, Hook, error) {
	anchor := link.Tail()
	count, err := link.LoadPinnedLink(l.pin(countPin(at.ID)), nil)
	switch {
	case err == nil:
		defer count.Close()
		anchor = link.BeforeLink(count)
	case !errors.Is(err, fs.ErrNotExist): // counted by clsact
		return nil, HookNone, err
	}
	return tc.attach(p, at, anchor)
}

// attachFilterXDP puts p in the place of the XDP count program, if there is one:
// the filter counts too. There is then no link of its own.
func (l *Loader) attachFilterXDP(p *ebpf.Program, at place, hook Hook) (link.Link, Hook, error) {
	count, err := link.LoadPinnedLink(l.pin(countPin(at.ID)), nil)
	if errors.Is(err, fs.ErrNotExist) {
		ln, err := attachXDP(p, at, hook)
		return ln, hook, err
	}
	if err != nil {
		return nil, HookNone, err
	}
	defer count.Close()
	used, err := l.countHook(at.ID)
	if err != nil {
		return nil, HookNone, err
	}
	if err := l.replaceXDP(count, at.ID, p); err != nil {
		return nil, HookNone, fmt.Errorf("replace the XDP program at %s: %w", at.Place(), err)
	}
	return nil, used, nil
}

// RemoveFilter detaches a filter, also one whose device is gone or has another
// name by now. No packet is dropped by it any more when it returns. The error is
// [ErrNoFilter] if there is none.
func (l *Loader) RemoveFilter(id int) error {
	unlock, err := lock(l.lab.Dir)
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
	book.Filters = slices.Delete(book.Filters, i, i+1)
	return l.writeFile(filtersFile, book)
}

// detachFilter detaches f, however far its adding got, by every hook that f may
// stand at: a killed AddFilter left no note of it.
func (l *Loader) detachFilter(f Filter) error {
	defer rcu.Expedite()()
	errs := []error{unpin(l.pin(filterPin(f.ID)))}
	if f.Hop.Layer == hop.XDP {
		errs = append(errs, l.restoreCountXDP(f.Hop))
	} else {
		errs = append(errs, removeFilters(l.lab.Dir, func(what string) bool { return what == filterWhat(f.ID) }))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("detaching filter %d from %s: %w", f.ID, f.Hop, err)
	}
	return unpin(l.pin(outcomesPin(f.ID)))
}

// restoreCountXDP puts the count program of h, if there is one, back in the
// filter's place.
func (l *Loader) restoreCountXDP(h hop.Hop) error {
	ln, err := link.LoadPinnedLink(l.pin(countPin(h.ID)), nil)
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
	// Only veth ends have XDP hops.
	coll, err := loadCount(bpf.ProgCountXDP, &places{all: []place{{Hop: h, ethernet: true}}}, counts)
	if err != nil {
		return err
	}
	defer coll.Close()
	return l.replaceXDP(ln, h.ID, coll.Programs[bpf.CopyName(bpf.ProgCountXDP, h.ID)])
}

// CountFilter returns what the filter did so far; nothing, if it is one whose
// adding or removing was killed.
func (l *Loader) CountFilter(id int) (FilterCount, error) {
	m, err := ebpf.LoadPinnedMap(l.pin(outcomesPin(id)), &ebpf.LoadPinOptions{ReadOnly: true})
	if errors.Is(err, fs.ErrNotExist) {
		return FilterCount{}, nil
	}
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
