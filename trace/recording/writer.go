package recording

import (
	"encoding/json"
	"errors"
	"io"

	"github.com/nsbpf/nsbpf/trace"
)

// errNoEvent says that a caller wrote an [Event] that has no field.
var errNoEvent = errors.New("recording: an event without content")

// Writer writes a recording as lines.
type Writer struct {
	enc *json.Encoder

	// Room of what is written most.
	run   sightingLine
	steps [8]stepDoc
	tuple tupleDoc
}

// NewWriter returns a Writer that has written start to w. Each line is one Write of
// w, so that it pays to buffer them.
func NewWriter(w io.Writer, start Start) (*Writer, error) {
	l := &Writer{enc: json.NewEncoder(w)}
	l.enc.SetEscapeHTML(false)
	l.run.Type = typeSighting
	start.Schema = Schema
	return l, l.enc.Encode(startLine{typeStart, start})
}

// Write writes what happened.
func (w *Writer) Write(e Event) error {
	switch {
	case e.Input != nil:
		return w.input(e.Input)
	case e.Snaps != nil:
		for i := range e.Snaps {
			if err := w.enc.Encode(newSnapLine(&e.Snaps[i])); err != nil {
				return err
			}
		}
		return nil
	case e.Filters != nil:
		return w.enc.Encode(filtersLine{typeFilters, e.Filters})
	case e.Node != nil:
		return w.enc.Encode(nodeLine{typeNode, e.Node})
	case e.Path != nil:
		return w.enc.Encode(pathLine{typePath, e.Path.JSON})
	case e.Losses != nil:
		return w.enc.Encode(lossesLine{typeLosses, e.Losses})
	case e.Ledger != nil:
		return w.enc.Encode(ledgerLine{typeLedger, e.Ledger})
	case e.Counts != nil:
		return w.enc.Encode(countsLine{typeCounts, newLedgersDoc(e.Counts)})
	case e.End != nil:
		return w.enc.Encode(endLine{typeEnd, newLedgersDoc(&e.End.Ledgers), e.End.RulingsLost, e.End.DropsMissed, costDoc(e.End.Cost)})
	case e.Next != "":
		return w.enc.Encode(nextLine{typeNext, e.Next})
	}
	return errNoEvent
}

func (w *Writer) input(in *trace.Input) error {
	for i := range in.Runs {
		r := &in.Runs[i]
		w.run.set(&r.Sighting, &w.tuple)
		w.run.Steps = w.steps[:0]
		for _, s := range r.Rest[:r.Steps] {
			w.run.Steps = append(w.run.Steps, stepDoc{s.Hop, s.DeltaNS})
		}
		if err := w.enc.Encode(&w.run); err != nil {
			return err
		}
	}
	for i := range in.Drops {
		if err := w.enc.Encode(newDropLine(&in.Drops[i], &w.tuple)); err != nil {
			return err
		}
	}
	for i := range in.Passages {
		if err := w.enc.Encode(newPassageLine(&in.Passages[i])); err != nil {
			return err
		}
	}
	for i := range in.Rulings {
		if err := w.enc.Encode(newRulingLine(&in.Rulings[i], &w.tuple)); err != nil {
			return err
		}
	}
	return w.enc.Encode(untilLine{typeUntil, in.Until})
}

// finish has nothing to do: all lines are written.
func (w *Writer) finish() error { return nil }
