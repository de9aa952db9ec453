package main

import (
	"errors"
	"os"

	"github.com/nsbpf/nsbpf/loader"
	"github.com/nsbpf/nsbpf/rulings"
	"github.com/nsbpf/nsbpf/topology"
	"github.com/nsbpf/nsbpf/trace"
)

// ruleWatch hears what nft's rules say of a trace's packets, in all nodes of a
// lab. Nil watches nothing.
type ruleWatch struct {
	watch  *rulings.Watch
	spaces []*os.File
}

// watchRules arms the nodes. The error wraps [errors.ErrUnsupported] where the
// kernel cannot do that.
func watchRules(lab *topology.Lab, tr *loader.Trace) (_ *ruleWatch, err error) {
	w := &ruleWatch{}
	var nodes []rulings.Node
	for _, n := range lab.Topology.Nodes {
		ns, err := lab.Netns(n.Name)
		if err != nil {
			return nil, errors.Join(err, w.Close())
		}
		w.spaces = append(w.spaces, ns)
		nodes = append(nodes, rulings.Node{Name: n.Name, NS: ns})
	}
	if w.watch, err = rulings.Open(nodes, rulings.Config{Lab: lab.Name, Selects: tr.Traced}); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// take returns what was said since the last call.
func (w *ruleWatch) take() []trace.Ruling {
	if w == nil || w.watch == nil {
		return nil
	}
	return w.watch.Take()
}

// lost returns how much of what was said there was no room for.
func (w *ruleWatch) lost() uint64 {
	if w == nil || w.watch == nil {
		return 0
	}
	return w.watch.Lost()
}

// Close disarms the nodes; what was said until then can still be taken. A second
// Close does nothing.
func (w *ruleWatch) Close() error {
	if w == nil {
		return nil
	}
	var errs []error
	if w.watch != nil {
		errs = append(errs, w.watch.Close())
	}
	for _, s := range w.spaces {
		errs = append(errs, s.Close())
	}
	w.spaces = nil
	return errors.Join(errs...)
}
