package report

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/forward"
	"github.com/nsbpf/nsbpf/trace"
)

// Closing is what a trace says at its end.
type Closing struct {
	Lab     string
	Totals  trace.Totals
	Ledgers collector.Ledgers
	// Sample is of how many packets one was chosen; 0 and 1: all.
	Sample uint32
	// Shown is how many paths were as the expression wants them; nil: all.
	Shown *uint64
	Cost  collector.Cost
	// RulingsLost is what nft's rules said and there was no room for.
	RulingsLost uint64
	// DropsMissed is how often the kernel could not tell of a drop.
	DropsMissed uint64
	// Losses are, by node, the counters of losses that grew meanwhile.
	Losses map[string][]forward.Loss
	// Unended says that neither Ledgers nor Cost are known: it is a recording's that
	// has no end.
	Unended bool
}

// ClosingText writes what became of the paths, and of every packet that was
// seen: one line, and more where events were lost or packets were a sample.
func ClosingText(w io.Writer, c Closing, style Style) error {
	b := closingLine(c, style)
	if lost := c.Ledgers.Total.Lost; lost > 0 {
		var hops []string
		for _, h := range c.Ledgers.Hops {
			if h.Lost > 0 {
				hops = append(hops, fmt.Sprintf("%d at %s", h.Lost, h.Hop))
			}
		}
		b += fmt.Sprintf("%slost%s: %s; paths may end early or begin late\n", style.Bad, style.Reset, strings.Join(hops, ", "))
	}
	if unheard := c.unheard(); unheard != "" {
		b += fmt.Sprintf("%slost%s: %s; not every end is explained\n", style.Bad, style.Reset, unheard)
	}
	for _, node := range slices.Sorted(maps.Keys(c.Losses)) {
		for _, l := range c.Losses[node] {
			b += fmt.Sprintf("counters of %s: %s +%d, %s\n", node, l.Name, l.Count, l.Meaning)
		}
	}
	if c.Sample > 1 {
		b += fmt.Sprintf("1 of %d was traced: about %s, %s delivered\n", c.Sample,
			estimated(c.Totals.Paths, c.Sample, "path"), estimated(c.Totals.Delivered, c.Sample, ""))
	}
	_, err := io.WriteString(w, b)
	return err
}

// unheard says what was lost besides sightings, "" if nothing was.
func (c *Closing) unheard() string {
	return amounts(unlessZero(c.Ledgers.Drops.Lost+c.DropsMissed, "of the kernel's drops"), unlessZero(c.Ledgers.Passages.Lost, "of netfilter's hooks"),
		unlessZero(c.RulingsLost, "of nft's rulings"), unlessZero(c.Ledgers.Total.Unsnapped, "of the packets' bytes"))
}

// Lost says how many events were lost, of whatever kind.
func (c *Closing) Lost() uint64 {
	l := &c.Ledgers
	return l.Total.Lost + l.Drops.Lost + l.Passages.Lost + c.RulingsLost + c.DropsMissed + l.Total.Unsnapped
}

func closingLine(c Closing, style Style) string {
	t := c.Totals
	// The verdicts add up to the paths.
	parts := []string{amounts(
		quantity(t.Paths, "path"), fmt.Sprintf("%d delivered", t.Delivered), unlessZero(t.LeftLab, "left the lab"),
		unlessZero(t.Merged, "merged"), unlessZero(t.PartlyDelivered, "partly delivered"),
		unlessZero(t.Dropped, "dropped"),
		unlessZero(t.LastSeen, "not delivered"), unlessZero(t.Unfinished, "unfinished"))}
	shown := ""
	if c.Shown != nil {
		shown = fmt.Sprintf("%d as asked for", *c.Shown)
	}
	if some := amounts(unlessZero(t.Retransmitted, "retransmitted"), unlessZero(t.GivenUp, "given up"), shown); some != "" {
		parts = append(parts, "of them "+some)
	}
	if t.Strays > 0 {
		parts = append(parts, quantity(t.Strays, "sighting")+" of unknown hops")
	}
	if t.Forgotten > 0 {
		parts = append(parts, quantity(t.Forgotten, "connection")+" forgotten")
	}
	ledger := ledgerText(c.Ledgers.Total, style)
	if c.Unended {
		ledger = style.Bad + "the recording has no end" + style.Reset + ": what was seen and lost is not known"
	}
	return strings.Join(append(parts, ledger), " · ") + "\n"
}

func ledgerText(l collector.Ledger, style Style) string {
	lost := fmt.Sprintf("lost %d", l.Lost)
	if l.Lost > 0 {
		lost = style.Bad + lost + style.Reset
	}
	s := fmt.Sprintf("seen %d = traced %d + filtered %d + sampled out %d + %s", l.Seen, l.Traced, l.Filtered, l.SampledOut, lost)
	if !l.Balanced() {
		s += style.Bad + " (does not add up)" + style.Reset
	}
	return s
}

// unlessZero returns n and what there are so many of, or nothing.
func unlessZero(n uint64, what string) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%d %s", n, what)
}

// amounts joins those that are not empty.
func amounts(all ...string) string {
	return strings.Join(slices.DeleteFunc(all, func(s string) bool { return s == "" }), ", ")
}

// estimated returns how many there were in all, with the 95 % bounds.
func estimated(k uint64, n uint32, noun string) string {
	e := trace.EstimateTotal(k, n)
	return strings.TrimRight(fmt.Sprintf("%.0f %s", e.Value, plural(noun)), " ") + fmt.Sprintf(" (%.0f to %.0f)", e.Low, e.High)
}

func plural(noun string) string {
	if noun == "" {
		return ""
	}
	return noun + "s"
}

// CostText returns what a trace took of the machine, as one sentence.
func CostText(c collector.Cost) string {
	kernel := "no packet came while the programs were measured"
	if c.Runs > 0 {
		kernel = fmt.Sprintf("%d ns a packet and hop in the kernel (of %d measured)", c.PerRun().Nanoseconds(), c.Runs)
	}
	return fmt.Sprintf("the trace cost: %s, %.1f %% of a CPU to read and join", kernel, 100*c.ReaderShare())
}

// ledgerJSON is a ledger as JSON has it.
type ledgerJSON struct {
	Seen       uint64 `json:"seen"`
	Traced     uint64 `json:"traced"`
	Filtered   uint64 `json:"filtered"`
	SampledOut uint64 `json:"sampled_out"`
	Lost       uint64 `json:"lost"`
	Balanced   bool   `json:"balanced"`
}

func newLedgerJSON(l collector.Ledger) ledgerJSON {
	return ledgerJSON{l.Seen, l.Traced, l.Filtered, l.SampledOut, l.Lost, l.Balanced()}
}

// unlessUnused returns nil for a ledger of nothing.
func unlessUnused(l collector.Ledger) *ledgerJSON {
	if l.Seen == 0 {
		return nil
	}
	j := newLedgerJSON(l)
	return &j
}

type hopLedgerJSON struct {
	Hop string `json:"hop"`
	ledgerJSON
}

type estimateJSON struct {
	Value int64 `json:"value"`
	Low   int64 `json:"low"`
	High  int64 `json:"high"`
}

func newEstimateJSON(k uint64, n uint32) estimateJSON {
	e := trace.EstimateTotal(k, n)
	return estimateJSON{int64(e.Value + .5), int64(e.Low + .5), int64(e.High + .5)}
}

type sampleJSON struct {
	OneOf     uint32       `json:"one_of"`
	Paths     estimateJSON `json:"paths"`
	Delivered estimateJSON `json:"delivered"`
	LastSeen  estimateJSON `json:"last_seen"`
}

type costJSON struct {
	Runs      uint64        `json:"runs_measured"`
	PerRun    time.Duration `json:"ns_per_packet_and_hop"`
	ReaderCPU time.Duration `json:"reader_cpu_ns"`
	Elapsed   time.Duration `json:"elapsed_ns"`
}

// ClosingJSON writes the same as one object of schema nsbpf.ledger/1.
func ClosingJSON(w io.Writer, c Closing) error {
	t := c.Totals
	hops := make([]hopLedgerJSON, len(c.Ledgers.Hops))
	for i, h := range c.Ledgers.Hops {
		hops[i] = hopLedgerJSON{h.Hop.String(), newLedgerJSON(h.Ledger)}
	}
	var sample *sampleJSON
	if n := c.Sample; n > 1 {
		sample = &sampleJSON{n, newEstimateJSON(t.Paths, n), newEstimateJSON(t.Delivered, n), newEstimateJSON(t.LastSeen, n)}
	}
	return encoder(w).Encode(struct {
		Schema          string `json:"schema"`
		Lab             string `json:"lab"`
		Paths           uint64 `json:"paths"`
		Delivered       uint64 `json:"delivered"`
		LeftLab         uint64 `json:"left_lab"`
		Merged          uint64 `json:"merged"`
		PartlyDelivered uint64 `json:"partly_delivered"`
		Dropped         uint64 `json:"dropped"`
		LastSeen        uint64 `json:"last_seen"`
		Unfinished      uint64 `json:"unfinished"`
		Retransmitted   uint64 `json:"retransmitted"`
		GivenUp         uint64 `json:"given_up"`
		Forgotten       uint64 `json:"forgotten"`
		Sightings       uint64 `json:"sightings"`
		Strays          uint64 `json:"strays"`
		ledgerJSON
		Shown       *uint64                   `json:"shown,omitempty"`
		Hops        []hopLedgerJSON           `json:"hops"`
		Sample      *sampleJSON               `json:"sample,omitempty"`
		Drops       *ledgerJSON               `json:"drops,omitempty"`
		Passages    *ledgerJSON               `json:"passages,omitempty"`
		RulingsLost uint64                    `json:"rulings_lost,omitempty"`
		DropsMissed uint64                    `json:"drops_missed,omitempty"`
		Unsnapped   uint64                    `json:"unsnapped,omitempty"`
		Losses      map[string][]forward.Loss `json:"losses,omitempty"`
		Unended     bool                      `json:"unended,omitempty"`
		Cost        costJSON                  `json:"cost"`
	}{
		"nsbpf.ledger/1", c.Lab, t.Paths, t.Delivered, t.LeftLab, t.Merged, t.PartlyDelivered, t.Dropped, t.LastSeen, t.Unfinished,
		t.Retransmitted, t.GivenUp, t.Forgotten, t.Sightings, t.Strays,
		newLedgerJSON(c.Ledgers.Total), c.Shown, hops, sample, unlessUnused(c.Ledgers.Drops), unlessUnused(c.Ledgers.Passages),
		c.RulingsLost, c.DropsMissed, c.Ledgers.Total.Unsnapped, c.Losses, c.Unended,
		costJSON{c.Cost.Runs, c.Cost.PerRun(), c.Cost.Reader, c.Cost.Elapsed},
	})
}
