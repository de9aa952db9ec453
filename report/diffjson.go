package report

import (
	"fmt"
	"io"
	"net/netip"

	"github.com/nsbpf/nsbpf/trace"
	"github.com/nsbpf/nsbpf/trace/diff"
)

type diffSideDoc struct {
	Name   string `json:"name"`
	Lab    string `json:"lab"`
	Expr   string `json:"expr,omitempty"`
	Paths  uint64 `json:"paths"`
	SpanNS int64  `json:"span_ns"`
	Lost   uint64 `json:"lost"`
	Cut    bool   `json:"cut,omitempty"`
	Sample uint32 `json:"sample"`
	Rate   uint32 `json:"rate,omitempty"`
}

type diffEdgeDoc struct {
	From string `json:"from"`
	To   string `json:"to"`
}

type diffFlowDoc struct {
	Text     string     `json:"text"` // as the text has it
	Origin   string     `json:"origin"`
	Kind     string     `json:"kind"`
	Peer     netip.Addr `json:"peer,omitzero"`
	Port     uint16     `json:"port,omitempty"`
	Reply    bool       `json:"reply,omitempty"`
	ICMPType *uint8     `json:"icmp_type,omitempty"`
	ICMPCode *uint8     `json:"icmp_code,omitempty"`
}

type diffOutcomeDoc struct {
	Text     string      `json:"text"`
	Node     string      `json:"node,omitempty"`
	Hop      string      `json:"hop,omitempty"`
	Hook     string      `json:"hook,omitempty"`
	Reason   string      `json:"reason,omitempty"`
	Function string      `json:"function,omitempty"`
	Rule     *trace.Rule `json:"rule,omitempty"`
	Partly   bool        `json:"partly,omitempty"`
}

type diffShareDoc struct {
	N  uint64 `json:"n"`
	Of uint64 `json:"of"`
}

type diffTimeDoc struct {
	diffEdgeDoc
	Kind     string     `json:"kind"`
	Whole    bool       `json:"whole,omitempty"`
	Count    [2]uint64  `json:"count"`
	MedianNS [2]float64 `json:"median_ns"`
	Ratio    float64    `json:"ratio"`
	Low      float64    `json:"low"`
	High     float64    `json:"high"`
	P        float64    `json:"p"`
}

type diffFindingDoc struct {
	Change   string          `json:"change"`
	Worse    bool            `json:"worse"`
	Doubt    string          `json:"doubt,omitempty"`
	Edge     *diffEdgeDoc    `json:"edge,omitempty"`
	Kinds    []string        `json:"kinds,omitempty"`
	NotInLab bool            `json:"not_in_lab,omitempty"`
	Was      *diffOutcomeDoc `json:"was,omitempty"`
	Is       *diffOutcomeDoc `json:"is,omitempty"`
	Flows    []diffFlowDoc   `json:"flows,omitempty"`
	A        *diffShareDoc   `json:"a,omitempty"`
	B        *diffShareDoc   `json:"b,omitempty"`
	Time     *diffTimeDoc    `json:"time,omitempty"`
	P        float64         `json:"p"`
}

type diffPresenceDoc struct {
	diffFlowDoc
	Paths uint64 `json:"paths"`
}

type diffDoc struct {
	Schema    string            `json:"schema"`
	A         diffSideDoc       `json:"a"`
	B         diffSideDoc       `json:"b"`
	MinEffect float64           `json:"min_effect"`
	Alpha     float64           `json:"alpha"`
	Findings  []diffFindingDoc  `json:"findings"`
	Doubtful  []diffFindingDoc  `json:"doubtful"`
	OnlyA     []diffPresenceDoc `json:"only_a"`
	OnlyB     []diffPresenceDoc `json:"only_b"`
	Times     []diffTimeDoc     `json:"times"`
	Thin      int               `json:"thin"`
	Edges     int               `json:"edges"`
	Flows     int               `json:"flows"`
	Tests     int               `json:"tests"`
}

// DiffJSON writes the same as one object of schema nsbpf.diff/1.
func DiffJSON(w io.Writer, d *diff.Difference) error {
	doc := diffDoc{
		Schema: "nsbpf.diff/1", A: newDiffSideDoc(d.A), B: newDiffSideDoc(d.B),
		MinEffect: d.Options.MinEffect, Alpha: d.Options.Alpha,
		Findings: each(d.Findings, newDiffFindingDoc), Doubtful: each(d.Doubtful, newDiffFindingDoc),
		OnlyA: each(d.OnlyA, newDiffPresenceDoc), OnlyB: each(d.OnlyB, newDiffPresenceDoc),
		Times: each(d.Times, newDiffTimeDoc), Thin: d.Thin, Edges: d.Edges, Flows: d.Flows, Tests: d.Tests,
	}
	if err := encoder(w).Encode(doc); err != nil {
		return fmt.Errorf("writing how %s and %s differ: %w", d.A.Name, d.B.Name, err)
	}
	return nil
}

// each returns f of all, never nil.
func each[T, D any](all []T, f func(T) D) []D {
	out := make([]D, len(all))
	for i, v := range all {
		out[i] = f(v)
	}
	return out
}

func newDiffSideDoc(s diff.Side) diffSideDoc {
	return diffSideDoc{s.Name, s.Lab, s.Expr, s.Paths, int64(s.Span), s.Lost, s.Cut, max(s.Sample, 1), s.Rate}
}

func newDiffFindingDoc(f diff.Finding) diffFindingDoc {
	doc := diffFindingDoc{Change: f.Change.String(), Worse: f.Change.Worse(), Doubt: f.Doubt.String(), NotInLab: f.NotInLab, P: f.P}
	if f.Time != nil {
		t := newDiffTimeDoc(*f.Time)
		doc.Time = &t
		return doc
	}
	if f.Edge != (diff.Edge{}) {
		doc.Edge, doc.Kinds = &diffEdgeDoc{f.Edge.From, f.Edge.To}, each(f.Kinds, kindText)
	}
	doc.Was, doc.Is = newDiffOutcomeDoc(f.Was), newDiffOutcomeDoc(f.Is)
	doc.Flows = each(f.Flows, newDiffFlowDoc)
	doc.A, doc.B = &diffShareDoc{f.A.N, f.A.Of}, &diffShareDoc{f.B.N, f.B.Of}
	return doc
}

// newDiffOutcomeDoc returns nil if nothing of the sort happened, or if the change says
// all.
func newDiffOutcomeDoc(o diff.Outcome) *diffOutcomeDoc {
	if o.Again || o == (diff.Outcome{}) {
		return nil
	}
	doc := &diffOutcomeDoc{outcomeText(o), o.Node, o.Hop, o.Hook, o.Reason, o.Function, nil, o.Partly}
	if o.Rule != (trace.Rule{}) {
		doc.Rule = &o.Rule
	}
	return doc
}

func newDiffFlowDoc(f diff.Flow) diffFlowDoc {
	doc := diffFlowDoc{Text: flowText(f), Origin: f.Origin, Kind: kindText(f.Kind), Peer: f.Peer.Addr(), Port: f.Peer.Port(), Reply: f.Reply}
	if isICMP(f.Kind) {
		doc.ICMPType, doc.ICMPCode = &f.ICMPType, &f.ICMPCode
	}
	return doc
}

func newDiffPresenceDoc(p diff.Presence) diffPresenceDoc {
	return diffPresenceDoc{newDiffFlowDoc(p.Flow), p.Paths}
}

func newDiffTimeDoc(t diff.Time) diffTimeDoc {
	return diffTimeDoc{diffEdgeDoc{t.Edge.From, t.Edge.To}, kindText(t.Kind), t.Whole, t.Count, t.Median, t.Ratio, t.Low, t.High, t.P}
}
