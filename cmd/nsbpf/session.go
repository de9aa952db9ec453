package main

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nsbpf/nsbpf/forward"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/trace"
	"github.com/nsbpf/nsbpf/trace/filter"
	"github.com/nsbpf/nsbpf/trace/recording"
	"github.com/nsbpf/nsbpf/trace/why"
)

// session makes of what a trace is told, live or from a recording, the paths of
// packets and why they ended. What it is told is written to the recording, if
// there is one, so that a replay comes to the same.
type session struct {
	start  recording.Start
	joiner *trace.Joiner
	nodes  map[string]*forward.Node // as last read
	losses map[string][]forward.Loss
	// look reads the configuration of nodes anew if it is time for that; nil: what
	// was told is all there is.
	look  func(nodes []string) error
	armed why.Armed
	// emit gets each path, and if asked for why it ended.
	emit   func(*trace.Path) error
	flush  func() error    // shows what was emitted; or nil
	record *recording.File // or nil
	err    error           // the first of what was done with a path
	until  uint64          // all before was told
	// next is the name of the file in which what was replayed goes on, if that is not
	// there.
	next string
}

// newSession returns a session of the trace that start describes.
func newSession(start recording.Start, identity trace.Identity, emit func(*trace.Path) error) (*session, error) {
	s := &session{start: start, emit: emit, nodes: make(map[string]*forward.Node), losses: make(map[string][]forward.Loss)}
	c := trace.Config{
		Hops: start.Hops, Edges: start.Edges, Owners: start.Owners, Identity: identity,
		Explain: start.Explain, Harmless: why.Harmless,
	}
	var err error
	s.joiner, err = trace.NewJoiner(c, func(p *trace.Path) {
		if s.err == nil {
			s.err = s.emit(p)
		}
	})
	return s, err
}

// take tells the session one thing, and writes it down.
func (s *session) take(e recording.Event) error {
	switch {
	case e.Input != nil:
		s.joiner.Add(*e.Input)
		s.until = max(s.until, e.Input.Until)
		if s.flush != nil {
			s.err = errors.Join(s.err, s.flush())
		}
	case e.Filters != nil:
		if err := s.setFilters(e.Filters); err != nil {
			return err
		}
	case e.Node != nil:
		s.nodes[e.Node.Name] = e.Node
	case e.Losses != nil:
		s.losses[e.Losses.Node] = e.Losses.Losses
	}
	return errors.Join(s.err, s.write(e))
}

// write writes e to the recording.
func (s *session) write(e recording.Event) error {
	if s.record == nil {
		return nil
	}
	return s.record.Write(e)
}

func (s *session) setFilters(fs []recording.Filter) error {
	filters := make([]trace.Filter, len(fs))
	for i, f := range fs {
		x, err := filter.Parse(f.Expr)
		if err != nil {
			return err
		}
		filters[i] = trace.Filter{ID: f.ID, Hop: f.Hop, Drops: x.Match}
	}
	s.joiner.SetFilters(filters)
	return nil
}

// why returns why p ended, nil if it came to its end or that cannot be told.
func (s *session) why(p *trace.Path) (*why.Conclusion, error) {
	if !p.Lost() {
		return nil, nil
	}
	names := s.concerned(p)
	if s.look != nil {
		if err := s.look(names); err != nil {
			return nil, err
		}
	}
	c := why.Case{Path: p, Hops: s.start.Hops, Armed: s.armed, Changed: make(map[string][]string)}
	for _, n := range names {
		if n := s.nodes[n]; n != nil {
			c.Nodes = append(c.Nodes, n)
		}
		for _, l := range s.losses[n] {
			c.Changed[n] = append(c.Changed[n], fmt.Sprintf("%s +%d", l.Name, l.Count))
		}
	}
	if got := why.Explain(c); got.Sentence != "" {
		return &got, nil
	}
	return nil, nil
}

// concerned returns the nodes where p was last, and where it should have come, or
// what makes its way.
func (s *session) concerned(p *trace.Path) []string {
	var names []string
	add := func(n string) {
		for _, have := range names {
			if have == n {
				return
			}
		}
		if n != "" {
			names = append(names, n)
		}
	}
	for i := range p.Drops {
		d := &p.Drops[i]
		add(d.Node)
		for _, e := range s.start.Edges { // where its device leads to
			if h := s.hop(e.From); h != nil && h.Node == d.Node && h.Device == d.Device && e.Wire {
				add(s.node(e.To))
			}
		}
	}
	add(s.node(p.Steps[p.End].HopID()))
	for _, id := range p.Next {
		add(s.node(id))
	}
	return names
}

// now returns until when all was told, and how long that is since the beginning.
func (s *session) now() (time.Time, time.Duration) {
	now := max(int64(s.until)+s.start.EpochNS, s.start.TimeNS)
	return time.Unix(0, now), time.Duration(now - s.start.TimeNS)
}

// node returns the node of a hop, "" for none.
func (s *session) node(id hop.ID) string {
	if h := s.hop(id); h != nil {
		return h.Node
	}
	return ""
}

// hop returns the hop with that ID, or nil.
func (s *session) hop(id hop.ID) *hop.Hop {
	for i := range s.start.Hops {
		if s.start.Hops[i].ID == id {
			return &s.start.Hops[i]
		}
	}
	return nil
}

// What a trace can watch besides the hops, as a recording has it.
const (
	seesDrops     = "drops"
	seesNetfilter = "netfilter"
	seesRules     = "rules"
)

// armedOf returns what the trace that start describes watched.
func armedOf(start recording.Start) why.Armed {
	return why.Armed{
		Drops:     slices.Contains(start.Sees, seesDrops),
		Netfilter: slices.Contains(start.Sees, seesNetfilter),
		Rules:     slices.Contains(start.Sees, seesRules),
	}
}
