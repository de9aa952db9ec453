package recording

import (
	"encoding/json"
	"time"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/forward"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/trace"
)

// The values of "type". A line is an object that begins with it.
const (
	typeStart    = "start"
	typeSighting = "sighting"
	typeDrop     = "drop"
	typePassage  = "passage"
	typeRuling   = "ruling"
	typeUntil    = "until"
	typeSnap     = "snap"
	typeFilters  = "filters"
	typeNode     = "node"
	typeLosses   = "losses"
	typePath     = "path"
	typeLedger   = "ledger"
	typeCounts   = "counts"
	typeEnd      = "end"
	typeNext     = "next"
)

type startLine struct {
	Type string `json:"type"`
	Start
}

// sightingLine is a run.
type sightingLine struct {
	Type string `json:"type"`
	sightingDoc
	Steps []stepDoc `json:"steps,omitempty"`
}

type stepDoc struct {
	Hop     uint16 `json:"hop"`
	DeltaNS uint32 `json:"delta_ns"` // since the sighting
}

type dropLine struct {
	Type     string      `json:"type"`
	Node     string      `json:"node"`
	Device   string      `json:"device,omitempty"`
	Reason   string      `json:"reason"`
	Function string      `json:"function,omitempty"`
	Callers  []string    `json:"callers,omitempty"`
	Matched  bool        `json:"matched,omitempty"`
	Followed bool        `json:"followed,omitempty"`
	Rule     *trace.Rule `json:"rule,omitempty"`
	Step     int         `json:"step,omitempty"`
	sightingDoc
}

func newDropLine(d *trace.Drop, room *tupleDoc) dropLine {
	l := dropLine{
		Type: typeDrop, Node: d.Node, Device: d.Device, Reason: d.Reason, Function: d.Function, Callers: d.Callers,
		Matched: d.Matched, Followed: d.Followed, Rule: d.Rule, Step: d.Step,
	}
	l.set(&d.Sighting, room)
	return l
}

func (l *dropLine) drop() trace.Drop {
	return trace.Drop{
		Sighting: l.sighting(), Node: l.Node, Device: l.Device, Reason: l.Reason, Function: l.Function, Callers: l.Callers,
		Matched: l.Matched, Followed: l.Followed, Rule: l.Rule, Step: l.Step,
	}
}

type passageLine struct {
	Type   string  `json:"type"`
	TimeNS uint64  `json:"time_ns"`
	Skb    address `json:"skb"`
	Node   string  `json:"node"`
	Family string  `json:"family"`
	Hook   string  `json:"hook"`
	Last   bool    `json:"last,omitempty"`
	Step   int     `json:"step,omitempty"`
}

func newPassageLine(p *trace.Passage) passageLine {
	return passageLine{typePassage, p.TimeNS, address(p.Skb), p.Node, p.Family, p.Hook, p.Last, p.Step}
}

func (l *passageLine) passage() trace.Passage {
	return trace.Passage{
		TimeNS: l.TimeNS, Skb: uint64(l.Skb), Node: l.Node, Family: l.Family, Hook: l.Hook, Last: l.Last, Step: l.Step,
	}
}

type rulingLine struct {
	Type string     `json:"type"`
	Node string     `json:"node"`
	Hook string     `json:"hook"`
	Rule trace.Rule `json:"rule"`
	Step int        `json:"step,omitempty"`
	sightingDoc
}

func newRulingLine(r *trace.Ruling, room *tupleDoc) rulingLine {
	l := rulingLine{Type: typeRuling, Node: r.Node, Hook: r.Hook, Rule: r.Rule, Step: r.Step}
	l.set(&r.Sighting, room)
	return l
}

func (l *rulingLine) ruling() trace.Ruling {
	return trace.Ruling{Sighting: l.sighting(), Node: l.Node, Hook: l.Hook, Rule: l.Rule, Step: l.Step}
}

// untilLine ends what a joiner was told at once. Its time is 0 where nothing was
// said of what may still come.
type untilLine struct {
	Type   string `json:"type"`
	TimeNS uint64 `json:"time_ns"`
}

type snapLine struct {
	Type   string  `json:"type"`
	TimeNS uint64  `json:"time_ns"`
	Skb    address `json:"skb,omitzero"`
	Hop    uint16  `json:"hop"`
	Length uint32  `json:"length"`
	Bytes  []byte  `json:"bytes"` // base64
}

func newSnapLine(s *collector.Snap) snapLine {
	return snapLine{typeSnap, s.TimeNS, address(s.Skb), s.Hop, s.Length, s.Bytes}
}

func (l *snapLine) snap() collector.Snap {
	return collector.Snap{TimeNS: l.TimeNS, Skb: uint64(l.Skb), Hop: l.Hop, Length: l.Length, Bytes: l.Bytes}
}

type filtersLine struct {
	Type    string   `json:"type"`
	Filters []Filter `json:"filters"`
}

type lossesLine struct {
	Type string `json:"type"`
	*Losses
}

type nodeLine struct {
	Type string        `json:"type"`
	Node *forward.Node `json:"node"`
}

type pathLine struct {
	Type string          `json:"type"`
	Path json.RawMessage `json:"path"`
}

type ledgerLine struct {
	Type   string          `json:"type"`
	Ledger json.RawMessage `json:"ledger"`
}

type nextLine struct {
	Type string `json:"type"`
	File string `json:"file"`
}

type countsLine struct {
	Type string `json:"type"`
	ledgersDoc
}

type endLine struct {
	Type string `json:"type"`
	ledgersDoc
	RulingsLost uint64  `json:"rulings_lost,omitempty"`
	DropsMissed uint64  `json:"drops_missed,omitempty"`
	Cost        costDoc `json:"cost"`
}

type ledgersDoc struct {
	Total    ledgerDoc      `json:"total"`
	Hops     []hopLedgerDoc `json:"hops"`
	Drops    ledgerDoc      `json:"drops,omitzero"`
	Passages ledgerDoc      `json:"passages,omitzero"`
}

func newLedgersDoc(l *collector.Ledgers) ledgersDoc {
	d := ledgersDoc{Total: newLedgerDoc(l.Total), Drops: newLedgerDoc(l.Drops), Passages: newLedgerDoc(l.Passages)}
	for _, h := range l.Hops {
		d.Hops = append(d.Hops, hopLedgerDoc{h.Hop, newLedgerDoc(h.Ledger)})
	}
	return d
}

func (d *ledgersDoc) ledgers() collector.Ledgers {
	l := collector.Ledgers{Total: d.Total.ledger(), Drops: d.Drops.ledger(), Passages: d.Passages.ledger()}
	for _, h := range d.Hops {
		l.Hops = append(l.Hops, collector.HopLedger{Hop: h.Hop, Ledger: h.ledger()})
	}
	return l
}

type ledgerDoc struct {
	Seen       uint64 `json:"seen"`
	Traced     uint64 `json:"traced"`
	Filtered   uint64 `json:"filtered"`
	SampledOut uint64 `json:"sampled_out"`
	Lost       uint64 `json:"lost"`
	Unsnapped  uint64 `json:"unsnapped,omitzero"`
}

func newLedgerDoc(l collector.Ledger) ledgerDoc {
	return ledgerDoc{l.Seen, l.Traced, l.Filtered, l.SampledOut, l.Lost, l.Unsnapped}
}

func (d ledgerDoc) ledger() collector.Ledger {
	return collector.Ledger(bpf.Ledger{
		Seen: d.Seen, Traced: d.Traced, Filtered: d.Filtered, SampledOut: d.SampledOut, Lost: d.Lost, Unsnapped: d.Unsnapped,
	})
}

type hopLedgerDoc struct {
	Hop hop.Hop `json:"hop"`
	ledgerDoc
}

type costDoc struct {
	Runs    uint64        `json:"runs"`
	RunTime time.Duration `json:"run_time_ns"`
	Reader  time.Duration `json:"reader_cpu_ns"`
	Elapsed time.Duration `json:"elapsed_ns"`
}
