package report

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/hop"
)

// AttachedHop is a hop and the hook that its count program is attached by: tcx,
// clsact, xdp, xdpgeneric, or none.
type AttachedHop struct {
	Hop  hop.Hop
	Hook string
}

// Stats is what was counted in a lab.
type Stats struct {
	Lab      string
	Hops     []AttachedHop // for their hooks
	Snapshot collector.Snapshot
	// Recent is what was counted lately, for rates; its Span is 0 if there are none.
	Recent collector.Snapshot
	Edges  []hop.Edge
}

func (s *Stats) hooks() map[hop.ID]string {
	m := make(map[hop.ID]string, len(s.Hops))
	for _, h := range s.Hops {
		m[h.Hop.ID] = h.Hook
	}
	return m
}

// arrivals returns what arrived lately, by hop.
func (s *Stats) arrivals() map[hop.ID]collector.Count {
	m := make(map[hop.ID]collector.Count)
	if s.Recent.Span <= 0 {
		return m
	}
	for i := range s.Recent.Hops {
		m[s.Recent.Hops[i].Hop.ID] = s.Recent.Hops[i].Arrived()
	}
	return m
}

// StatsTable writes a line for each hop and one for each wire. Wires where
// something is missing are set off.
func StatsTable(w io.Writer, s *Stats, style Style) error {
	hooks, recent := s.hooks(), s.arrivals()
	t := newTable("HOP", "HOOK", ">PACKETS", ">SEGMENTS", ">BYTES", ">PKT/S", ">BIT/S", "DROPS")
	for i := range s.Snapshot.Hops {
		h := &s.Snapshot.Hops[i]
		c := h.Arrived()
		row := []string{h.Hop.String(), hooks[h.Hop.ID], decimal(c.Packets), decimal(c.Segments), decimal(c.Bytes), "", "", drops(h)}
		if r, ok := recent[h.Hop.ID]; ok {
			row[5] = scaled(perSecond(r.Packets, s.Recent.Span))
			row[6] = scaled(perSecond(8*r.WireBytes, s.Recent.Span))
		}
		t.row(row...)
	}
	if err := t.write(w, style); err != nil {
		return err
	}
	return balances(w, collector.Conservation(s.Snapshot, s.Edges), style)
}

func balances(w io.Writer, bs []collector.Balance, style Style) error {
	if len(bs) == 0 {
		return nil
	}
	t := newTable("WIRE", ">SEGMENTS OUT", ">IN", ">MISSING")
	for _, b := range bs {
		missing := strconv.FormatInt(b.Missing(), 10)
		t.row(b.From.Place()+" > "+b.To.Place(), decimal(b.Out.Segments), decimal(b.In.Segments), missing)
		if b.Missing() != 0 {
			t.setOff()
		}
	}
	if _, err := io.WriteString(w, "\n"); err != nil {
		return err
	}
	return t.write(w, style)
}

// drops returns how many packets ended here and why, as in "3 filter".
func drops(h *collector.HopCount) string {
	var parts []string
	for _, d := range h.Drops() {
		parts = append(parts, decimal(d.Packets)+" "+d.Reason.String())
	}
	return strings.Join(parts, ", ")
}

func decimal(n uint64) string { return strconv.FormatUint(n, 10) }

func perSecond(n uint64, span time.Duration) float64 { return float64(n) / span.Seconds() }

// scaled returns v to three digits with k, M, G or T for thousands.
func scaled(v float64) string {
	suffix := ""
	for _, s := range []string{"k", "M", "G", "T"} {
		if v < 999.5 {
			break
		}
		v, suffix = v/1000, s
	}
	digits := 0
	if suffix != "" && v < 9.995 {
		digits = 2
	} else if suffix != "" && v < 99.95 {
		digits = 1
	}
	return strconv.FormatFloat(v, 'f', digits, 64) + suffix
}

type hopDoc struct {
	Hop       string            `json:"hop"`
	Node      string            `json:"node"`
	Device    string            `json:"device"`
	Direction hop.Direction     `json:"direction"`
	Layer     hop.Layer         `json:"layer"`
	Hook      string            `json:"hook"`
	Packets   uint64            `json:"packets"`
	Segments  uint64            `json:"segments"`
	Bytes     uint64            `json:"bytes"`
	WireBytes uint64            `json:"wire_bytes"`
	Passed    uint64            `json:"passed"`
	Drops     map[string]uint64 `json:"drops"`
	Rate      *rateDoc          `json:"rate,omitempty"`
}

type rateDoc struct {
	Packets   float64 `json:"packets_per_second"`
	Segments  float64 `json:"segments_per_second"`
	WireBytes float64 `json:"wire_bytes_per_second"`
}

type edgeDoc struct {
	From        string `json:"from"`
	To          string `json:"to"`
	PacketsOut  uint64 `json:"packets_out"`
	PacketsIn   uint64 `json:"packets_in"`
	SegmentsOut uint64 `json:"segments_out"`
	SegmentsIn  uint64 `json:"segments_in"`
	Missing     int64  `json:"missing"`
}

// StatsJSON writes one object of schema nsbpf.stats/1.
func StatsJSON(w io.Writer, s *Stats) error {
	doc := struct {
		Schema string    `json:"schema"`
		Lab    string    `json:"lab"`
		TimeNS int64     `json:"time_ns"`
		Hops   []hopDoc  `json:"hops"`
		Edges  []edgeDoc `json:"edges"`
	}{"nsbpf.stats/1", s.Lab, s.Snapshot.Time.UnixNano(), []hopDoc{}, []edgeDoc{}}

	hooks, recent := s.hooks(), s.arrivals()
	for i := range s.Snapshot.Hops {
		d := newHopDoc(&s.Snapshot.Hops[i])
		d.Hook = hooks[s.Snapshot.Hops[i].Hop.ID]
		if r, ok := recent[s.Snapshot.Hops[i].Hop.ID]; ok {
			span := s.Recent.Span
			d.Rate = &rateDoc{perSecond(r.Packets, span), perSecond(r.Segments, span), perSecond(r.WireBytes, span)}
		}
		doc.Hops = append(doc.Hops, d)
	}
	for _, b := range collector.Conservation(s.Snapshot, s.Edges) {
		doc.Edges = append(doc.Edges, edgeDoc{
			From: b.From.String(), To: b.To.String(), PacketsOut: b.Out.Packets, PacketsIn: b.In.Packets,
			SegmentsOut: b.Out.Segments, SegmentsIn: b.In.Segments, Missing: b.Missing(),
		})
	}
	if err := encoder(w).Encode(doc); err != nil {
		return fmt.Errorf("writing the stats of %s: %w", s.Lab, err)
	}
	return nil
}

func newHopDoc(h *collector.HopCount) hopDoc {
	c := h.Arrived()
	d := hopDoc{
		Hop: h.Hop.String(), Node: h.Hop.Node, Device: h.Hop.Device, Direction: h.Hop.Direction, Layer: h.Hop.Layer,
		Packets: c.Packets, Segments: c.Segments, Bytes: c.Bytes, WireBytes: c.WireBytes,
		Passed: h.Passed().Packets, Drops: map[string]uint64{},
	}
	for _, drop := range h.Drops() {
		d.Drops[drop.Reason.String()] = drop.Packets
	}
	return d
}
