package load

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/netns"
)

// losses counts the packets that the kernel drops in the namespaces of a path, by
// reason, as long as it is open. It costs nothing as long as none is dropped.
type losses struct {
	coll   *ebpf.Collection
	tap    link.Link
	nodes  map[uint32]string // by the namespace's inode
	kernel *collector.Kernel
	before map[bpf.LostKey]uint64
	notes  []string
}

// countLosses begins to count. A kernel that does not say what it drops is no
// error: what it drops is then unknown, and the notes say why.
func countLosses(self *os.File, places []Place) (l *losses, err error) {
	l = &losses{nodes: make(map[uint32]string)}
	for _, p := range places {
		ns := p.Netns
		if ns == nil {
			ns = self
		}
		id, err := netns.ID(ns)
		if err != nil {
			return nil, err
		}
		if l.nodes[uint32(id)] == "" {
			l.nodes[uint32(id)] = p.Node
		}
	}
	if err := l.open(); err != nil {
		l.close()
		l.coll, l.tap = nil, nil
		l.notes = append(l.notes, fmt.Sprintf("where packets are lost is unknown: %v", err))
	}
	return l, nil
}

func (l *losses) open() (err error) {
	if l.kernel, err = collector.OpenKernel(); err != nil {
		return err
	}
	spec, err := only(bpf.ProgLost)
	if err != nil {
		return err
	}
	if l.coll, err = ebpf.NewCollection(spec); err != nil {
		return fmt.Errorf("load the counter of drops: %w", err)
	}
	for id := range l.nodes {
		if err := l.coll.Maps[bpf.MapSpaces].Put(id, uint8(1)); err != nil {
			return fmt.Errorf("count drops in %s: %w", l.nodes[id], err)
		}
	}
	l.tap, err = link.AttachRawTracepoint(link.RawTracepointOptions{Name: "kfree_skb", Program: l.coll.Programs[bpf.ProgLost]})
	if err != nil {
		return fmt.Errorf("count drops: %w", err)
	}
	return nil
}

func (l *losses) close() {
	if l.tap != nil {
		l.tap.Close()
	}
	if l.coll != nil {
		l.coll.Close()
	}
}

// reset forgets what was dropped so far.
func (l *losses) reset() (err error) {
	l.before, err = l.counts()
	return err
}

func (l *losses) counts() (map[bpf.LostKey]uint64, error) {
	all := make(map[bpf.LostKey]uint64)
	if l.coll == nil {
		return all, nil
	}
	var key bpf.LostKey
	var n uint64
	it := l.coll.Maps[bpf.MapLosses].Iterate()
	for it.Next(&key, &n) {
		all[key] = n
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("read the drops: %w", err)
	}
	return all, nil
}

// read returns what was dropped since [losses.reset], less what a sink at tc took.
func (l *losses) read(sink string, taken uint64) ([]Loss, error) {
	counts, err := l.counts()
	if err != nil {
		return nil, err
	}
	var all []Loss
	for key, n := range counts {
		loss := Loss{Node: l.nodes[key.Space], Reason: l.kernel.Reason(key.Reason), Packets: n - l.before[key]}
		loss.Place = placeOf(loss.Reason)
		if loss.Node == sink && loss.Reason == "TC_INGRESS" {
			loss.Packets -= min(taken, loss.Packets)
		}
		if loss.Packets > 0 && loss.Reason != "CONSUMED" && loss.Reason != "SKB_CONSUMED" {
			all = append(all, loss)
		}
	}
	return all, nil
}

// only returns the specification of package bpf's generator with the named
// programs and the maps that they use.
func only(programs ...string) (*ebpf.CollectionSpec, error) {
	spec, err := bpf.GenerateSpec()
	if err != nil {
		return nil, err
	}
	keep := make(map[string]*ebpf.ProgramSpec)
	used := make(map[string]bool)
	for _, name := range programs {
		p, ok := spec.Programs[name]
		if !ok {
			return nil, errors.New("bpf program " + name + " does not exist")
		}
		keep[name] = p
		for _, in := range p.Instructions {
			used[in.Reference()] = true
		}
	}
	spec.Programs = keep
	for name := range spec.Maps {
		if !used[name] {
			delete(spec.Maps, name)
		}
	}
	if spec.Maps[".rodata"] == nil {
		spec.Variables = nil
	}
	return spec, nil
}
