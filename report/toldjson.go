package report

import (
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/trace"
)

// What is told of a Path besides its steps. A step of -1 is before the first.

type dropDoc struct {
	Step     int         `json:"step"`
	TimeNS   int64       `json:"time_ns"`
	Node     string      `json:"node"`
	Device   string      `json:"device,omitempty"`
	Reason   string      `json:"reason"`
	Function string      `json:"function,omitempty"`
	Callers  []string    `json:"callers,omitempty"`
	Rule     *trace.Rule `json:"rule,omitempty"`
}

type passageDoc struct {
	Step   int    `json:"step"`
	TimeNS int64  `json:"time_ns"`
	Node   string `json:"node"`
	Family string `json:"family"`
	Hook   string `json:"hook"`
	Passed bool   `json:"passed"` // it came through all that stands there
}

type rulingDoc struct {
	Step int        `json:"step"`
	Node string     `json:"node"`
	Hook string     `json:"hook,omitempty"`
	Rule trace.Rule `json:"rule"`
}

// told adds what the kernel, netfilter and nft told of p.
func (j *PathJSON) told(p *trace.Path) {
	for i := range p.Drops {
		d := &p.Drops[i]
		doc := dropDoc{d.Step, j.time(&d.Sighting), d.Node, d.Device, d.Reason, d.Function, d.Callers, d.Rule}
		if p.Steps[d.Step].HopID() == hop.None {
			doc.Step = -1
		}
		j.doc.Drops = append(j.doc.Drops, doc)
	}
	for i := range p.Passages {
		q := &p.Passages[i]
		j.doc.Passages = append(j.doc.Passages, passageDoc{q.Step, int64(q.TimeNS) + j.epoch, q.Node, q.Family, q.Hook, q.Last})
	}
	for i := range p.Rulings {
		r := &p.Rulings[i]
		j.doc.Rulings = append(j.doc.Rulings, rulingDoc{r.Step, r.Node, r.Hook, r.Rule})
	}
}

// name returns the hop, "" for none.
func (j *PathJSON) name(id hop.ID) string {
	h, ok := j.hops[id]
	if !ok {
		return ""
	}
	return h.String()
}
