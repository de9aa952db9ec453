package trace

import (
	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/hop"
)

// Filter is a filter of the user's that drops packets at a hop, behind where they
// are seen.
type Filter struct {
	ID    int // not 0
	Hop   hop.ID
	Drops func(*bpf.Packet) bool
}

// SetFilters says what drops packets from now on, instead of what was said
// before: a packet that is seen at the hop of a filter that drops it has come no
// further. Filters of hops that the lab does not have are left out.
func (j *Joiner) SetFilters(filters []Filter) {
	for i := range j.graph.places {
		j.graph.places[i].filters = nil
	}
	for _, f := range filters {
		if p := j.graph.at(f.Hop); p != nil {
			p.filters = append(p.filters, f)
		}
	}
}

// droppedBy returns the ID of the filter at p that drops s, or 0.
func (p *place) droppedBy(s *collector.Sighting) int {
	for i := range p.filters {
		if p.filters[i].Drops(&s.Packet) {
			return p.filters[i].ID
		}
	}
	return 0
}
