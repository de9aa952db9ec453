package trace

import (
	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/hop"
)

// EdgeTimes collects how long the packets of Paths took over each edge.
type EdgeTimes struct {
	edges  []collector.EdgeLatency
	onward [][]onwardEdge // by the hop an edge comes from
}

// onwardEdge is an edge as it is found from its first hop, which few leave.
type onwardEdge struct {
	to    uint16
	times *collector.Histogram
}

// NewEdgeTimes returns EdgeTimes of a lab's edges.
func NewEdgeTimes(edges []hop.Edge) *EdgeTimes {
	t := &EdgeTimes{}
	for _, e := range edges {
		h := new(collector.Histogram)
		t.edges = append(t.edges, collector.EdgeLatency{Edge: e, Times: h})
		for len(t.onward) <= int(e.From) {
			t.onward = append(t.onward, nil)
		}
		t.onward[e.From] = append(t.onward[e.From], onwardEdge{uint16(e.To), h})
	}
	return t
}

// Add records the steps of p. A time that clocks which disagree made negative is
// recorded as none.
func (t *EdgeTimes) Add(p *Path) {
	for i := range p.Steps {
		st := &p.Steps[i]
		if st.Prev < 0 {
			continue
		}
		if h := t.between(p.Steps[st.Prev].Hop, st.Hop); h != nil {
			h.Record(max(0, st.Delta))
		}
	}
}

func (t *EdgeTimes) between(from, to uint16) *collector.Histogram {
	if int(from) >= len(t.onward) {
		return nil
	}
	for _, e := range t.onward[from] {
		if e.to == to {
			return e.times
		}
	}
	return nil
}

// Edges returns all edges in their order, and their times so far.
func (t *EdgeTimes) Edges() []collector.EdgeLatency { return t.edges }
