package loader

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/internal/netns"
	"github.com/nsbpf/nsbpf/internal/rcu"
)

// explainer is the part of a trace that sees what the kernel does between the
// hops. Its programs are the process's: nothing is pinned.
type explainer struct {
	programs *ebpf.Collection
	drops    link.Link // nil: not armed
	passages []link.Link
}

// SeesDrops says whether the kernel tells what it drops.
func (x *explainer) SeesDrops() bool { return x.drops != nil }

// SeesPassages says whether both ends of the nodes' netfilter hooks are watched.
func (x *explainer) SeesPassages() bool { return len(x.passages) > 0 }

// MissedDrops returns how many packets that the kernel dropped, of the whole
// machine, were in no ledger: an interrupt dropped them while the program was at
// another on the same CPU. It is to be read before Close.
func (x *explainer) MissedDrops() (uint64, error) {
	if x.programs == nil {
		return 0, nil
	}
	s, err := x.programs.Programs[bpf.ProgDrop].Stats()
	if err != nil {
		return 0, fmt.Errorf("reading how many drops were missed: %w", err)
	}
	return s.RecursionMisses, nil
}

// explain arms what opts ask for and the kernel has, and says what it has not. t's
// own programs are loaded.
func (t *Trace) explain(ctx context.Context, l *Loader, opts TraceOptions) error {
	for _, n := range l.lab.Topology.Nodes {
		t.Nodes = append(t.Nodes, n.Name)
	}
	spaces, err := openNodes(l, t.Nodes)
	if err != nil {
		return err
	}
	defer closeAll(spaces)
	spec, err := t.explainSpec(opts, len(spaces))
	if err != nil {
		return err
	}
	if t.programs, err = load(spec, shared(spec, t.coll)); err != nil {
		t.unarmed("drops and netfilter hooks are not seen", err)
		return nil
	}
	if err := t.tellNodes(spaces); err != nil {
		return err
	}
	t.Traced = t.programs.Programs[bpf.ProgTraced]
	t.drops, err = link.AttachRawTracepoint(link.RawTracepointOptions{Name: "kfree_skb", Program: t.programs.Programs[bpf.ProgDrop]})
	if err != nil {
		t.unarmed("drops are not seen", err)
	}
	if t.programs.Programs[bpf.ProgPassageFirst] == nil {
		return nil
	}
	if err := t.attachPassages(ctx, spaces); err != nil {
		if ctx.Err() != nil {
			return err
		}
		t.unarmed("netfilter hooks are not seen", errors.Join(err, t.detachPassages()))
	}
	return nil
}

func (t *Trace) unarmed(what string, err error) {
	t.Unarmed = append(t.Unarmed, fmt.Sprintf("%s: %v", what, err))
}

// explainSpec returns the programs that are asked for and that the kernel has.
func (t *Trace) explainSpec(opts TraceOptions, nodes int) (*ebpf.CollectionSpec, error) {
	spec, err := bpf.ExplainSpec()
	if err != nil {
		return nil, err
	}
	for name, m := range shared(spec, t.coll) {
		spec.Maps[name].MaxEntries = m.MaxEntries()
	}
	spec.Maps[bpf.MapNodes].MaxEntries = uint32(max(nodes, 1))
	if err := bpf.SetLedgers(spec, t.Ledgers.MaxEntries()-bpf.OtherLedgers); err != nil {
		return nil, err
	}
	if err := choose(spec, opts); err != nil {
		return nil, err
	}
	if !opts.Explain {
		delete(spec.Programs, bpf.ProgTraced)
	}
	err = features.HaveProgramType(ebpf.Netfilter)
	if err != nil && opts.Explain {
		t.unarmed("netfilter hooks are not seen", err)
	}
	if err != nil || !opts.Explain {
		delete(spec.Programs, bpf.ProgPassageFirst)
		delete(spec.Programs, bpf.ProgPassageLast)
	}
	return spec, nil
}

// shared returns the maps of coll that spec has too, without the programs' own
// variables.
func shared(spec *ebpf.CollectionSpec, coll *ebpf.Collection) map[string]*ebpf.Map {
	maps := make(map[string]*ebpf.Map)
	for name := range spec.Maps {
		if m := coll.Maps[name]; m != nil && name[0] != '.' {
			maps[name] = m
		}
	}
	return maps
}

// tellNodes tells the programs which namespaces are the lab's.
func (t *Trace) tellNodes(spaces []*os.File) error {
	for i, ns := range spaces {
		id, err := netns.ID(ns)
		if err != nil {
			return err
		}
		if err := t.programs.Maps[bpf.MapNodes].Put(uint32(id), uint16(i)); err != nil {
			return fmt.Errorf("telling the trace of node %q: %w", t.Nodes[i], err)
		}
	}
	return nil
}

// openNodes opens the namespaces of nodes.
func openNodes(l *Loader, nodes []string) (spaces []*os.File, err error) {
	defer func() {
		if err != nil {
			closeAll(spaces)
		}
	}()
	for _, name := range nodes {
		ns, err := l.lab.Netns(name)
		if err != nil {
			return spaces, err
		}
		spaces = append(spaces, ns)
	}
	return spaces, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// The ends of a netfilter hook, NF_IP_PRI_FIRST and NF_IP_PRI_LAST, are the
// kernel's own. No two programs have one priority, so those of further traces are
// further inside.
const (
	priorityFirst = -1<<31 + 1
	priorityLast  = 1<<31 - 2
	mostTraces    = 64
)

func (t *Trace) attachPassages(ctx context.Context, spaces []*os.File) error {
	defer rcu.Expedite()()
	for i, ns := range spaces {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := netns.Do(ns, t.attachHere); err != nil {
			return fmt.Errorf("attach the trace to netfilter in %s: %w", t.Nodes[i], err)
		}
	}
	return nil
}

// attachHere attaches to all hooks of the caller's namespace.
func (t *Trace) attachHere() error {
	first, last := t.programs.Programs[bpf.ProgPassageFirst], t.programs.Programs[bpf.ProgPassageLast]
	for _, family := range []link.NetfilterProtocolFamily{link.NetfilterProtoIPv4, link.NetfilterProtoIPv6} {
		for hook := link.NetfilterInetHook(link.NetfilterInetPreRouting); hook <= link.NetfilterInetPostRouting; hook++ {
			at := link.NetfilterOptions{ProtocolFamily: family, Hook: hook}
			at.Program, at.Priority = first, priorityFirst
			if err := t.attachPassage(at, +1); err != nil {
				return err
			}
			at.Program, at.Priority = last, priorityLast
			if err := t.attachPassage(at, -1); err != nil {
				return err
			}
		}
	}
	return nil
}

// attachPassage attaches at a priority, or as few steps from it as others leave.
func (t *Trace) attachPassage(at link.NetfilterOptions, step int32) error {
	for range mostTraces - 1 {
		ln, err := link.AttachNetfilter(at)
		if err == nil {
			t.passages = append(t.passages, ln)
			return nil
		}
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
		at.Priority += step
	}
	return fmt.Errorf("%d traces are there already", mostTraces)
}

// detach stops the programs.
func (x *explainer) detach() error {
	var errs []error
	if x.drops != nil {
		errs = append(errs, x.drops.Close())
		x.drops = nil
	}
	return errors.Join(append(errs, x.detachPassages())...)
}

func (x *explainer) detachPassages() error {
	if len(x.passages) == 0 {
		return nil
	}
	defer rcu.Expedite()()
	var errs []error
	for _, ln := range x.passages {
		errs = append(errs, ln.Close())
	}
	x.passages = nil
	return errors.Join(errs...)
}

// free frees the programs, which are detached.
func (x *explainer) free() {
	if x.programs != nil {
		x.programs.Close()
		x.programs = nil
	}
}
