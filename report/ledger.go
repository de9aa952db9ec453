package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/trace"
)

// LedgerText writes the line that closes a trace: what became of the paths, and
// of every packet that was seen.
func LedgerText(w io.Writer, t trace.Totals, l collector.Ledger, style Style) error {
	parts := []string{quantity(t.Paths, "path"), fmt.Sprintf("%d delivered", t.Delivered)}
	add := func(n uint64, what string) {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, what))
		}
	}
	add(t.LeftLab, "left the lab")
	add(t.LastSeen, "not delivered")
	add(t.GivenUp, "given up")
	add(t.Strays, "of unknown hops")

	lost := fmt.Sprintf("lost %d", l.Lost)
	if l.Lost > 0 {
		lost = style.Bad + lost + style.Reset
	}
	line := fmt.Sprintf("%s · seen %d = traced %d + filtered %d + sampled out %d + %s",
		strings.Join(parts, ", "), l.Seen, l.Traced, l.Filtered, l.SampledOut, lost)
	if !l.Balanced() {
		line += style.Bad + " (does not add up)" + style.Reset
	}
	_, err := fmt.Fprintln(w, line)
	return err
}

// LedgerJSON writes the same as one object of schema nsbpf.ledger/1.
func LedgerJSON(w io.Writer, lab string, t trace.Totals, l collector.Ledger) error {
	return encoder(w).Encode(struct {
		Schema     string `json:"schema"`
		Lab        string `json:"lab"`
		Paths      uint64 `json:"paths"`
		Delivered  uint64 `json:"delivered"`
		LeftLab    uint64 `json:"left_lab"`
		LastSeen   uint64 `json:"last_seen"`
		GivenUp    uint64 `json:"given_up"`
		Sightings  uint64 `json:"sightings"`
		Strays     uint64 `json:"strays"`
		Seen       uint64 `json:"seen"`
		Traced     uint64 `json:"traced"`
		Filtered   uint64 `json:"filtered"`
		SampledOut uint64 `json:"sampled_out"`
		Lost       uint64 `json:"lost"`
		Balanced   bool   `json:"balanced"`
	}{
		"nsbpf.ledger/1", lab, t.Paths, t.Delivered, t.LeftLab, t.LastSeen, t.GivenUp, t.Sightings, t.Strays,
		l.Seen, l.Traced, l.Filtered, l.SampledOut, l.Lost, l.Balanced(),
	})
}
