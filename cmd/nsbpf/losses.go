package main

import (
	"slices"

	"github.com/nsbpf/nsbpf/forward"
	"github.com/nsbpf/nsbpf/topology"
	"github.com/nsbpf/nsbpf/trace/recording"
)

// lossWatch has the counters of nodes as they were when a trace began.
type lossWatch map[string]map[string]uint64

// mostWatched bounds the nodes whose counters are read: each takes a millisecond.
const mostWatched = 64

func watchLosses(lab *topology.Lab) (lossWatch, error) {
	w := make(lossWatch)
	for _, n := range lab.Topology.Nodes[:min(len(lab.Topology.Nodes), mostWatched)] {
		var err error
		if w[n.Name], err = forward.Counters(lab, n.Name); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// lookForLosses tells the session which counters of a node grew, if others did
// than it was told last.
func (l *live) lookForLosses(node string) error {
	before, ok := l.losses[node]
	if !ok {
		return nil
	}
	now, err := forward.Counters(l.lab, node)
	if err != nil {
		return notThere(err)
	}
	losses := forward.DiffCounters(before, now)
	if slices.Equal(losses, l.session.losses[node]) {
		return nil
	}
	return l.take(recording.Event{Losses: &recording.Losses{Node: node, Losses: losses}})
}
