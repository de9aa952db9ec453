package report

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/hop"
)

// Latency is how long packets took over the edges of a lab.
type Latency struct {
	Lab    string
	Time   time.Time     // of the reading
	Span   time.Duration // that was measured
	Sample uint32        // one of so many packets was timed on each edge; 0 and 1: all
	Hops   []hop.Hop
	Edges  []collector.EdgeLatency // in the lab's order
	Unused bool                    // show also edges that no packet was timed on
	// Packets accounts for the packets of latency programs; nil if it was paths
	// that were timed.
	Packets *collector.Timing
}

// latencyRow is one edge.
type latencyRow struct {
	from, to hop.Hop
	wire     bool
	times    *collector.Histogram
}

func (l *Latency) rows() []latencyRow {
	hops := make(map[hop.ID]hop.Hop, len(l.Hops))
	for _, h := range l.Hops {
		hops[h.ID] = h
	}
	var rows []latencyRow
	for _, e := range l.Edges {
		if l.Unused || e.Times.Count() > 0 {
			rows = append(rows, latencyRow{hops[e.Edge.From], hops[e.Edge.To], e.Edge.Wire, e.Times})
		}
	}
	return rows
}

// percentiles are what is shown of the times of an edge, beside the longest.
var percentiles = [...]float64{0.5, 0.9, 0.99}

// LatencyTable writes a line for each edge and one that says how exact they are;
// with Packets, also one that accounts for them.
func LatencyTable(w io.Writer, l *Latency, style Style) error {
	t := newTable("EDGE", ">COUNT", ">P50", ">P90", ">P99", ">MAX")
	rows := l.rows()
	for _, r := range rows {
		cells := []string{edgeName(r.from, r.to), decimal(r.times.Count()), "-", "-", "-", "-"}
		if r.times.Count() > 0 {
			for i, q := range percentiles {
				cells[2+i] = threeDigits(r.times.Quantile(q))
			}
			cells[5] = threeDigits(r.times.Max())
		}
		t.row(cells...)
	}
	if err := t.writeUnlessEmpty(w, style); err != nil {
		return err
	}
	var lines string
	if len(rows) > 0 {
		lines = l.exactness() + "\n"
	}
	if l.Packets != nil {
		lines += l.account(style) + "\n"
	}
	_, err := io.WriteString(w, lines)
	return err
}

// exactness is the line that says what the figures are worth.
func (l *Latency) exactness() string {
	bound := strconv.FormatFloat(100*collector.HistogramError, 'f', 1, 64)
	s := "percentiles ±" + bound + " %, max exact"
	if l.Sample > 1 {
		s += fmt.Sprintf(" · 1 of %d packets", l.Sample)
	}
	if l.Span > 0 {
		s += " · " + Duration(l.Span)
	}
	return s
}

// threeDigits returns d in its largest fitting unit, as in 314 ns, 1.36 µs, 20.2 ms,
// 120 s.
func threeDigits(d time.Duration) string {
	v, unit := float64(d), " ns"
	for _, u := range []string{" µs", " ms", " s"} {
		if v < 999.5 {
			break
		}
		v, unit = v/1000, u
	}
	digits := 0
	switch {
	case unit == " ns" || v >= 99.95:
	case v >= 9.995:
		digits = 1
	default:
		digits = 2
	}
	return strconv.FormatFloat(v, 'f', digits, 64) + unit
}

// edgeName leaves out the directions, which the devices say, and the node where
// it is the same. From XDP to tc on a device only the layers differ.
func edgeName(from, to hop.Hop) string {
	switch {
	case from.Place() == to.Place():
		return from.Place() + " " + side(from) + " > " + side(to)
	case from.Node == to.Node:
		return from.Place() + " > " + to.Device
	}
	return from.Place() + " > " + to.Place()
}

// account is the line that says what became of the packets.
func (l *Latency) account(style Style) string {
	p, untimed := l.Packets, "from no hop"
	if l.Sample > 1 {
		untimed = "from no hop or not chosen"
	}
	s := fmt.Sprintf("seen %d = timed %d + %s %d + address reused %d", p.Seen, p.Timed, untimed, p.Untimed(), p.Reused)
	if p.Crowded > 0 {
		s += style.Bad + fmt.Sprintf(" + on too many edges %d", p.Crowded) + style.Reset
	}
	if p.Displaced > 0 {
		s += fmt.Sprintf(" · %d displaced", p.Displaced)
	}
	return s
}

type latencyDoc struct {
	From  string `json:"from"`
	To    string `json:"to"`
	Wire  bool   `json:"wire"`
	Count uint64 `json:"count"`
	P50   int64  `json:"p50_ns"`
	P90   int64  `json:"p90_ns"`
	P99   int64  `json:"p99_ns"`
	Max   int64  `json:"max_ns"`
}

type packetsDoc struct {
	Seen      uint64 `json:"seen"`
	Timed     uint64 `json:"timed"`
	Untimed   uint64 `json:"untimed"`
	Reused    uint64 `json:"reused"`
	Crowded   uint64 `json:"crowded"`
	Displaced uint64 `json:"displaced"`
}

// LatencyJSON writes one object of schema nsbpf.latency/1.
func LatencyJSON(w io.Writer, l *Latency) error {
	doc := struct {
		Schema  string       `json:"schema"`
		Lab     string       `json:"lab"`
		TimeNS  int64        `json:"time_ns"`
		SpanNS  int64        `json:"span_ns"`
		Sample  uint32       `json:"sample"`
		Error   float64      `json:"relative_error"`
		Edges   []latencyDoc `json:"edges"`
		Packets *packetsDoc  `json:"packets,omitempty"`
	}{"nsbpf.latency/1", l.Lab, l.Time.UnixNano(), int64(l.Span), max(l.Sample, 1), collector.HistogramError, []latencyDoc{}, nil}
	for _, r := range l.rows() {
		doc.Edges = append(doc.Edges, latencyDoc{
			From: r.from.String(), To: r.to.String(), Wire: r.wire, Count: r.times.Count(),
			P50: int64(r.times.Quantile(0.5)), P90: int64(r.times.Quantile(0.9)), P99: int64(r.times.Quantile(0.99)),
			Max: int64(r.times.Max()),
		})
	}
	if p := l.Packets; p != nil {
		doc.Packets = &packetsDoc{p.Seen, p.Timed, p.Untimed(), p.Reused, p.Crowded, p.Displaced}
	}
	if err := encoder(w).Encode(doc); err != nil {
		return fmt.Errorf("writing the latencies of %s: %w", l.Lab, err)
	}
	return nil
}
