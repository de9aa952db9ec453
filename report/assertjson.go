package report

import (
	"bytes"
	"encoding/json"
	"io"

	"github.com/nsbpf/nsbpf/assert"
)

type assertDoc struct {
	Schema     string         `json:"schema"`
	Lab        string         `json:"lab"`
	File       string         `json:"file"`
	TimeNS     int64          `json:"time_ns"`
	TookNS     int64          `json:"took_ns"`
	Held       int            `json:"held"`
	Failed     int            `json:"failed"`
	Assertions []assertionDoc `json:"assertions"`
}

type assertionDoc struct {
	Name     string          `json:"name"`
	Packet   string          `json:"packet"`
	Line     int             `json:"line"`
	Holds    bool            `json:"holds"`
	Tries    int             `json:"tries"`
	TookNS   int64           `json:"took_ns"`
	Sent     int             `json:"sent"`
	Summary  string          `json:"summary,omitempty"`
	Failures []failureDoc    `json:"failures"`
	Path     json.RawMessage `json:"path,omitempty"`
}

type failureDoc struct {
	What string `json:"what"`
	Text string `json:"text"`
}

// AssertJSON writes one object of schema nsbpf.assert/1.
func AssertJSON(w io.Writer, a *Asserted) error {
	failed := a.Failed()
	d := assertDoc{
		Schema: "nsbpf.assert/1", Lab: a.Lab, File: a.File, TimeNS: a.Time.UnixNano(), TookNS: int64(a.Took),
		Held: len(a.Results) - failed, Failed: failed, Assertions: []assertionDoc{},
	}
	for i := range a.Results {
		one, err := a.assertion(&a.Results[i])
		if err != nil {
			return err
		}
		d.Assertions = append(d.Assertions, one)
	}
	return encoder(w).Encode(d)
}

func (a *Asserted) assertion(r *assert.Result) (assertionDoc, error) {
	d := assertionDoc{
		Name: r.Name, Packet: r.Text, Line: r.Line, Holds: r.Holds(), Tries: r.Tries, TookNS: int64(r.Took),
		Sent: len(r.Probes), Summary: r.Summary, Failures: []failureDoc{},
	}
	for _, f := range r.Failures {
		d.Failures = append(d.Failures, failureDoc{f.What, f.Text})
	}
	if p := r.Shown(); p != nil {
		if lost, c := p.Lost(); lost != nil {
			var b bytes.Buffer
			if err := NewPathJSON(&b, a.Lab, a.Hops, a.EpochNS).Path(lost, c); err != nil {
				return d, err
			}
			d.Path = b.Bytes()
		}
	}
	return d, nil
}
