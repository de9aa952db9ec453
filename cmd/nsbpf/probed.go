package main

import (
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/ping"
	"github.com/nsbpf/nsbpf/report"
	"github.com/nsbpf/nsbpf/trace"
	"github.com/nsbpf/nsbpf/trace/why"
)

// probePaths finds the paths of probes and of their answers in what a trace sees.
type probePaths struct {
	tracks *ping.Tracks
	why    map[*trace.Path]*why.Conclusion
}

// newProbePaths returns probePaths of what is sent in the node from.
func newProbePaths(from string, hops []hop.Hop) probePaths {
	return probePaths{ping.NewTracks(from, hops), make(map[*trace.Path]*why.Conclusion)}
}

// add takes note of path if it may be one of them, and reports whether. explain
// says why it ended.
func (p probePaths) add(path *trace.Path, explain func(*trace.Path) (*why.Conclusion, error)) (bool, error) {
	kept := p.tracks.Add(path)
	if kept == nil {
		return false, nil
	}
	c, err := explain(kept)
	p.why[kept] = c
	return true, err
}

// find looks for the paths of a probe, and reports whether none is missing. A probe
// within a node passes no hop.
func (p probePaths) find(pr *report.Probe, within bool) bool {
	if pr.Forward == nil {
		pr.Forward = p.tracks.Forward(&pr.Probe)
		pr.ForwardWhy = p.why[pr.Forward]
	}
	if pr.Back == nil {
		pr.Back = p.tracks.Back(&pr.Probe)
		if pr.Back != nil && pr.Back.Lost() {
			pr.BackWhy = p.why[pr.Back]
		}
	}
	switch {
	case within:
		return true
	case pr.Forward == nil || pr.Back != nil:
		return pr.Forward != nil
	case pr.Answer == nil:
		return pr.Forward.Lost()
	}
	return pr.Answer.From == pr.Key.Src // what a node tells itself passes no hop
}
