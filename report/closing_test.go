package report

import (
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/trace"
)

// closing is the end of a trace that lost a sighting.
func (r *recording) closing() Closing {
	all := collector.Ledger{Seen: 33, Traced: 30, Filtered: 2, Lost: 1}
	first := collector.Ledger{Seen: 9, Traced: 8, Lost: 1}
	return Closing{
		Lab: "nat", Totals: r.joiner.Totals(),
		Ledgers: collector.Ledgers{Total: all, Hops: []collector.HopLedger{
			{Hop: r.hops[0], Ledger: first},
			{Hop: r.hops[1], Ledger: collector.Ledger{Seen: 24, Traced: 22, Filtered: 2}},
		}},
		Cost: collector.Cost{Runs: 30, RunTime: 6300, Reader: 20 * time.Millisecond, Elapsed: 4 * time.Second},
	}
}

func TestClosingOfASample(t *testing.T) {
	c := Closing{
		Lab: "nat", Sample: 64,
		Totals: trace.Totals{Paths: 1000, Delivered: 990, LastSeen: 10, Sightings: 4000},
		Ledgers: collector.Ledgers{
			Total: collector.Ledger{Seen: 256_000, Traced: 4000, SampledOut: 252_000},
			Hops:  []collector.HopLedger{{Hop: hop.Hop{Node: "left", Device: "eth0"}, Ledger: collector.Ledger{Seen: 256_000, Traced: 4000, SampledOut: 252_000}}},
		},
	}
	golden(t, "sample.txt", func(w io.Writer) error { return ClosingText(w, c, Style{}) })
	goldenJSON(t, "sample.json", "nsbpf.ledger/1", func(w io.Writer) error { return ClosingJSON(w, c) })
}

func TestClosingOfEveryKindOfPath(t *testing.T) {
	shown := uint64(0)
	c := Closing{
		Lab: "nat", Shown: &shown,
		Totals: trace.Totals{
			Sightings: 900, Strays: 1, Paths: 100, Delivered: 50, LeftLab: 20, Merged: 15, PartlyDelivered: 5, LastSeen: 8, Unfinished: 2,
			Retransmitted: 7, GivenUp: 3, Forgotten: 2,
		},
		Ledgers: collector.Ledgers{Total: collector.Ledger{Seen: 900, Traced: 900}},
	}
	golden(t, "closing.txt", func(w io.Writer) error { return ClosingText(w, c, Style{}) })
	goldenJSON(t, "closing.json", "nsbpf.ledger/1", func(w io.Writer) error { return ClosingJSON(w, c) })
}

func TestClosingThatDoesNotAddUp(t *testing.T) {
	c := Closing{Ledgers: collector.Ledgers{Total: collector.Ledger{Seen: 3, Traced: 1}}}
	golden(t, "unbalanced.txt", func(w io.Writer) error { return ClosingText(w, c, Style{}) })
}

func TestCostText(t *testing.T) {
	for _, tt := range []struct {
		c    collector.Cost
		want string
	}{
		{collector.Cost{Runs: 30, RunTime: 6300, Reader: 20 * time.Millisecond, Elapsed: 4 * time.Second},
			"the trace cost: 210 ns a packet and hop in the kernel (of 30 measured), 0.5 % of a CPU to read and join"},
		{collector.Cost{},
			"the trace cost: no packet came while the programs were measured, 0.0 % of a CPU to read and join"},
	} {
		if d := cmp.Diff(tt.want, CostText(tt.c)); d != "" {
			t.Error(d)
		}
	}
}
