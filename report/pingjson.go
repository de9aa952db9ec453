package report

import (
	"fmt"
	"io"
	"net/netip"

	"github.com/nsbpf/nsbpf/ping"
	"github.com/nsbpf/nsbpf/trace"
	"github.com/nsbpf/nsbpf/trace/why"
)

type pingDoc struct {
	Schema     string     `json:"schema"`
	Lab        string     `json:"lab"`
	From       string     `json:"from"`
	To         string     `json:"to"`
	Src        netip.Addr `json:"src"`
	Dst        netip.Addr `json:"dst"`
	Proto      string     `json:"proto"`
	Port       uint16     `json:"port,omitempty"`
	Size       int        `json:"size"`
	MTU        int        `json:"mtu"`
	TTL        int        `json:"ttl,omitempty"`
	DF         bool       `json:"df,omitempty"`
	Sent       int        `json:"sent"`
	Unsent     int        `json:"unsent"`
	Answered   int        `json:"answered"`
	Refused    int        `json:"refused"`
	Silent     int        `json:"silent"`
	Duplicates int        `json:"duplicates"`
	Late       int        `json:"late"`
	RTT        *spreadDoc `json:"rtt,omitempty"`
	Probes     []probeDoc `json:"probes"`
	Forward    legDoc     `json:"forward"`
	Back       legDoc     `json:"back"`
	// Predicted is left out if there was no prediction.
	Predicted   *bool    `json:"predicted,omitempty"`
	Differences []string `json:"differences,omitempty"`
	Untold      string   `json:"untold,omitempty"`
}

type spreadDoc struct {
	Min    int64 `json:"min_ns"`
	Median int64 `json:"median_ns"`
	Max    int64 `json:"max_ns"`
}

type probeDoc struct {
	Number  int             `json:"number"`
	TimeNS  int64           `json:"time_ns"`
	ID      uint16          `json:"id,omitempty"`
	Seq     uint32          `json:"seq,omitempty"`
	Sport   uint16          `json:"sport,omitempty"`
	Dport   uint16          `json:"dport,omitempty"`
	Error   string          `json:"error,omitempty"`
	Answer  *answerDoc      `json:"answer,omitempty"`
	Forward uint64          `json:"forward,omitempty"` // the number of the Path
	Back    uint64          `json:"back,omitempty"`
	Why     *why.Conclusion `json:"conclusion,omitempty"`
	BackWhy *why.Conclusion `json:"back_conclusion,omitempty"`
}

type answerDoc struct {
	Kind  string     `json:"kind"`
	From  netip.Addr `json:"from"`
	RTTNS int64      `json:"rtt_ns"`
	ICMP  *icmpDoc   `json:"icmp,omitempty"`
	MTU   int        `json:"mtu,omitempty"`
}

type legDoc struct {
	Arrived int           `json:"arrived"`
	Time    *spreadDoc    `json:"time,omitempty"`
	Edges   []pingEdgeDoc `json:"edges"`
	Lost    []lostDoc     `json:"lost"`
}

type pingEdgeDoc struct {
	From    string    `json:"from"`
	To      string    `json:"to"`
	Packets int       `json:"packets"`
	Time    spreadDoc `json:"time"`
}

type lostDoc struct {
	At      string          `json:"at,omitempty"`
	Packets int             `json:"packets"`
	Verdict string          `json:"verdict"`
	Why     *why.Conclusion `json:"conclusion,omitempty"`
}

// PingJSON writes one object of schema nsbpf.ping/1.
func PingJSON(w io.Writer, p *Ping) error {
	r, o := &p.Results, &p.Options
	doc := pingDoc{
		Schema: "nsbpf.ping/1", Lab: p.Lab, From: p.From, To: p.To, Src: p.Source, Dst: o.Dst,
		Proto: o.Proto.String(), Port: o.Port, Size: o.Size, MTU: p.MTU, TTL: o.TTL, DF: o.DontFragment,
		Sent: r.Sent, Unsent: r.Unsent, Answered: r.Answered, Refused: r.Refused, Silent: r.Silent(),
		Duplicates: r.Duplicates, Late: r.Late,
		Probes: []probeDoc{}, Forward: p.leg(&p.Forward), Back: p.leg(&p.Back),
		Differences: p.Differences, Untold: p.Untold,
	}
	if r.Answered > 0 {
		s := newSpreadDoc(r.RTT())
		doc.RTT = &s
	}
	if p.Untold == "" {
		as := len(p.Differences) == 0
		doc.Predicted = &as
	}
	for i := range p.Probes {
		doc.Probes = append(doc.Probes, newProbeDoc(&p.Probes[i]))
	}
	if err := encoder(w).Encode(doc); err != nil {
		return fmt.Errorf("writing the probes from %s: %w", p.From, err)
	}
	return nil
}

func newSpreadDoc(s ping.Spread) spreadDoc {
	return spreadDoc{int64(s.Min), int64(s.Median), int64(s.Max)}
}

func newProbeDoc(p *Probe) probeDoc {
	k := &p.Key
	d := probeDoc{
		Number: p.Number, TimeNS: p.Sent.UnixNano(), ID: k.ID, Seq: k.Seq, Sport: k.Sport, Dport: k.Dport,
		Forward: number(p.Forward), Back: number(p.Back), Why: p.ForwardWhy, BackWhy: p.BackWhy,
	}
	if p.Err != nil {
		d.Error = p.Err.Error()
	}
	if a := p.Answer; a != nil {
		d.Answer = &answerDoc{Kind: a.Kind.String(), From: a.From, RTTNS: int64(a.RTT), MTU: a.MTU}
		if a.Kind == ping.ICMPError {
			d.Answer.ICMP = &icmpDoc{Type: a.Type, Code: a.Code}
		}
	}
	return d
}

// number returns that of p, 0 if it is not known.
func number(p *trace.Path) uint64 {
	if p == nil {
		return 0
	}
	return p.Number
}

func (p *Ping) leg(l *ping.Leg) legDoc {
	at := p.hopNames()
	d := legDoc{Arrived: l.Arrived, Edges: []pingEdgeDoc{}, Lost: []lostDoc{}}
	if l.Arrived > 0 {
		s := newSpreadDoc(l.Time())
		d.Time = &s
	}
	for i := range l.Edges {
		e := &l.Edges[i]
		d.Edges = append(d.Edges, pingEdgeDoc{at[e.From].String(), at[e.To].String(), e.Packets(), newSpreadDoc(e.Time())})
	}
	for i := range l.Lost {
		lost := &l.Lost[i]
		doc := lostDoc{Packets: lost.Packets, Verdict: lost.Path.Verdict.String(), Why: p.whyOf(lost.Path)}
		if h, ok := at[lost.At]; ok {
			doc.At = h.String()
		}
		d.Lost = append(d.Lost, doc)
	}
	return d
}
