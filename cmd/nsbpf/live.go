package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/forward"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/loader"
	"github.com/nsbpf/nsbpf/topology"
	"github.com/nsbpf/nsbpf/trace"
	"github.com/nsbpf/nsbpf/trace/recording"
)

// live is a trace of a running lab: what is read there is told to a session.
type live struct {
	*session
	env     *env
	lab     *topology.Lab
	tr      *loader.Trace
	ring    *collector.Ring
	names   *kernelNames
	rules   *ruleWatch // nil: they are not watched
	filters filterWatch
	losses  lossWatch
	presence
	counted time.Time       // when the ledgers were recorded last
	drops   []trace.Drop    // room of tell's
	looked  map[string]bool // nodes that were looked at for what is told now
}

// openLive returns a live trace whose paths go to emit. It closes tr when it is
// closed, and also if there is an error.
func openLive(e *env, lab *topology.Lab, tr *loader.Trace, run traceRun, emit func(*trace.Path) error) (l *live, err error) {
	l = &live{env: e, lab: lab, tr: tr, filters: filterWatch{loader: loader.Open(lab)}, looked: make(map[string]bool)}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	if l.ring, err = collector.OpenRing(tr.Ring, tr.Sweep); err != nil {
		return l, err
	}
	if l.names, err = openKernelNames(lab, tr.Nodes); err != nil {
		return l, err
	}
	start, err := startOf(lab, tr, run)
	if err != nil {
		return l, err
	}
	if run.attach.Explain {
		if l.rules, err = watchRules(lab, tr); errors.Is(err, errors.ErrUnsupported) {
			start.Unarmed = append(start.Unarmed, err.Error())
		} else if err != nil {
			return l, err
		} else {
			start.Sees = append(start.Sees, seesRules)
		}
	}
	if l.session, err = newSession(start, run.identity, emit); err != nil {
		return l, err
	}
	for _, what := range start.Unarmed {
		e.warn("%s", what)
	}
	l.armed = armedOf(start)
	l.look = l.lookAt
	l.losses, err = watchLosses(lab)
	return l, err
}

// Close ends the trace and frees all.
func (l *live) Close() error {
	var errs []error
	errs = append(errs, l.rules.Close())
	if l.ring != nil {
		errs = append(errs, l.ring.Close())
	}
	return errors.Join(append(errs, l.tr.Close())...)
}

// follow tells the session what is seen until ctx is done, and what is left then.
func (l *live) follow(ctx context.Context) (recording.End, error) {
	if err := l.watchFilters(); err != nil {
		return recording.End{}, err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	l.stop = stop
	cost := watchCost(ctx, l.tr)
	err := l.ring.Read(ctx, l.tell)
	stop() // an error ends it before ctx does
	spent, costErr := cost()
	if err := errors.Join(err, costErr); err != nil {
		return recording.End{}, err
	}
	missed, err := l.tr.MissedDrops()
	if err != nil {
		return recording.End{}, err
	}
	// The programs went on until they were detached.
	if err := errors.Join(l.tr.Detach(), l.rules.Close(), l.ring.Drain(l.tell)); err != nil {
		return recording.End{}, err
	}
	l.watchLab(l.lab)
	for _, n := range l.start.Nodes {
		if err := l.read(n, l.lookForLosses); err != nil {
			return recording.End{}, err
		}
	}
	clear(l.looked)
	l.joiner.End()
	ledgers, err := collector.ReadLedgers(l.tr.Ledgers, l.tr.Hops)
	return recording.End{Ledgers: ledgers, RulingsLost: l.rules.lost(), DropsMissed: missed, Cost: spent}, errors.Join(l.err, err)
}

// tell tells the session what was read of the ring, and what came besides.
func (l *live) tell(batch *collector.Batch, until uint64) error {
	clear(l.looked)
	if until != 0 && l.watchLab(l.lab) {
		if err := l.watchFilters(); err != nil {
			return err
		}
	}
	if len(batch.Snaps) > 0 {
		if err := l.take(recording.Event{Snaps: batch.Snaps}); err != nil {
			return err
		}
	}
	in := trace.Input{Runs: batch.Runs, Drops: l.drops[:0], Until: until}
	for i := range batch.Drops {
		if d, ok := l.names.drop(&batch.Drops[i]); ok {
			in.Drops = append(in.Drops, d)
		}
	}
	l.drops = in.Drops
	for i := range batch.Passages {
		in.Passages = append(in.Passages, l.names.passage(&batch.Passages[i]))
	}
	in.Rulings = l.rules.take()
	return errors.Join(l.take(recording.Event{Input: &in}), l.count())
}

// count records what was lost up to now, once a second.
func (l *live) count() error {
	if l.record == nil || time.Since(l.counted) < time.Second {
		return nil
	}
	l.counted = time.Now()
	ledgers, err := collector.ReadLedgers(l.tr.Ledgers, l.tr.Hops)
	if err != nil {
		return err
	}
	return l.write(recording.Event{Counts: &ledgers})
}

// lookAt reads the configuration of nodes, of each once a second at most, and before
// the first path that it is needed for of those that are told at once: a replay has
// it for all of them.
func (l *live) lookAt(nodes []string) error {
	for _, name := range nodes {
		if l.looked[name] {
			continue
		}
		l.looked[name] = true
		if n := l.nodes[name]; n != nil && time.Since(time.Unix(0, n.TimeNS)) < time.Second {
			continue
		}
		if err := errors.Join(l.read(name, l.readNode), l.read(name, l.lookForLosses)); err != nil {
			return err
		}
	}
	return nil
}

// readNode tells the session how a node is configured.
func (l *live) readNode(name string) error {
	n, err := forward.Read(l.lab, name)
	if err != nil {
		return notThere(err)
	}
	return l.take(recording.Event{Node: n})
}

// startOf describes the trace.
func startOf(lab *topology.Lab, tr *loader.Trace, run traceRun) (recording.Start, error) {
	owners, err := addressOwners(lab)
	if err != nil {
		return recording.Start{}, err
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return recording.Start{}, err
	}
	var sees []string
	if tr.SeesDrops() {
		sees = append(sees, seesDrops)
	}
	if tr.SeesPassages() {
		sees = append(sees, seesNetfilter)
	}
	version, _ := buildVersion()
	now := time.Now().UnixNano()
	return recording.Start{
		Version: version, Args: run.args, Kernel: unix.ByteSliceToString(name.Release[:]), Lab: lab.Name,
		TimeNS: now, EpochNS: now - int64(collector.Now()),
		Hops: tr.Hops, Edges: lab.Topology.Edges(tr.Hops), Owners: owners, Nodes: tr.Nodes, Bare: tr.Bare,
		Expr: run.source, Sample: uint32(run.sample), Rate: run.rate, Count: run.count, Identity: run.traceFlags.identity,
		Explain: run.attach.Explain, Sees: sees, Unarmed: tr.Unarmed, SnapLen: run.attach.Snap,
	}, nil
}

// watchFilters tells the session of the lab's filters if they changed.
func (l *live) watchFilters() error {
	fs, changed, err := l.filters.look()
	if err != nil || !changed {
		return err
	}
	return l.take(recording.Event{Filters: fs})
}

// filterWatch sees which filters a lab has.
type filterWatch struct {
	loader *loader.Loader
	known  []loader.Filter
	looked time.Time
}

// look returns the filters if they are others than those it returned last. It
// looks four times a second at most.
func (w *filterWatch) look() (_ []recording.Filter, changed bool, err error) {
	if time.Since(w.looked) < 250*time.Millisecond {
		return nil, false, nil
	}
	w.looked = time.Now()
	now, err := w.loader.Filters()
	if err != nil || slices.Equal(now, w.known) {
		return nil, false, err
	}
	w.known = now
	fs := make([]recording.Filter, len(now))
	for i, f := range now {
		fs[i] = recording.Filter{ID: f.ID, Hop: f.Hop.ID, Expr: f.Expr}
	}
	return fs, true, nil
}

// warnTaken says at which hops another trace stands.
func warnTaken(e *env, hops []hop.Hop) {
	if len(hops) == 0 {
		return
	}
	names := make([]string, len(hops))
	for i, h := range hops {
		names[i] = h.String()
	}
	e.warn("not traced: %s (another trace has the XDP hops of the lab; end that first)", strings.Join(names, ", "))
}
