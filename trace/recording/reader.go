package recording

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strings"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/trace"
)

// ErrCut says that a recording ends before its end: the trace was killed, or is
// still writing it. What was read before is good.
var ErrCut = errors.New("the recording is cut off (was the trace killed?)")

var errEmpty = errors.New("there is no recording in it")

// longestLine bounds a line. A node's configuration can be long.
const longestLine = 64 << 20

// Reader reads a recording.
type Reader struct {
	name    string // of the file, if it is known
	file    io.Closer
	names   []string // of the files before
	in      *bufio.Reader
	line    []byte
	num     int  // of the line
	unended bool // whether the file ends in the line
	start   Start
	input   trace.Input
	some    bool // whether input has anything
	done    bool // whether the recording's end was read

	// Room of what is read most.
	sighting sightingLine
	tuple    tupleDoc
}

// NewReader returns a Reader of the lines of r, and reads what they start with.
func NewReader(r io.Reader) (*Reader, error) { return newReader(r, "") }

// newReader is [NewReader] of a file of that name.
func newReader(r io.Reader, name string) (*Reader, error) {
	l := &Reader{in: bufio.NewReaderSize(r, 1<<16), name: name}
	switch err := l.next(); {
	case err == io.EOF:
		return nil, l.about(errEmpty)
	case err != nil:
		return nil, err
	}
	var head struct {
		Type    string `json:"type"`
		Schema  string `json:"schema"`
		Version string `json:"version"`
	}
	if err := l.decode(&head); err != nil || head.Type != typeStart || !strings.HasPrefix(head.Schema, "nsbpf.recording/") {
		return nil, l.wrong("this is no recording of nsbpf (want an object of type %q and schema %q)", typeStart, Schema)
	}
	if head.Schema != Schema {
		return nil, l.wrong("the recording is of schema %q, written by nsbpf %s (this nsbpf reads %q)", head.Schema, head.Version, Schema)
	}
	return l, l.decode(&l.start)
}

// Start returns what the recording starts with.
func (r *Reader) Start() Start { return r.start }

// Events returns what follows, in order, up to the first error. The slices of an
// Event are the Reader's again when the next one is asked for. A recording that
// ends without an End and a Next ends in [ErrCut].
func (r *Reader) Events() iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for {
			e, err := r.event()
			if e.Next != "" && err == nil {
				var is bool
				if is, err = r.goOn(e.Next); is && err == nil {
					continue
				}
			}
			if err == io.EOF {
				return
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// event returns the next event, and io.EOF behind the last.
func (r *Reader) event() (Event, error) {
	r.forget()
	for {
		switch err := r.next(); {
		case err == io.EOF && r.done:
			return Event{}, io.EOF
		case err == io.EOF:
			return r.cutOff()
		case err != nil:
			return Event{}, err
		case r.done:
			return Event{}, r.wrong("there is a line behind the end")
		}
		e, complete, err := r.take()
		if err != nil && r.unended {
			return r.cutOff()
		}
		if err != nil || complete {
			return e, err
		}
	}
}

// cutOff returns what came of a batch that was cut off, and then the error.
func (r *Reader) cutOff() (Event, error) {
	if !r.some {
		return Event{}, r.about(ErrCut)
	}
	return Event{Input: &r.input}, nil
}

// forget empties the input for the next one.
func (r *Reader) forget() {
	in := &r.input
	*in = trace.Input{Runs: in.Runs[:0], Drops: in.Drops[:0], Passages: in.Passages[:0], Rulings: in.Rulings[:0]}
	r.some = false
}

// take returns the event of the line, or adds it to the input.
func (r *Reader) take() (e Event, complete bool, err error) {
	kind, err := r.kind()
	if err != nil {
		return e, false, err
	}
	switch kind {
	case typeSighting, typeDrop, typePassage, typeRuling:
		err = r.add(kind)
		r.some = r.some || err == nil
		return e, false, err
	case typeUntil:
		var l untilLine
		err = r.decode(&l)
		r.input.Until = l.TimeNS
		return Event{Input: &r.input}, true, err
	}
	if r.some {
		return e, false, r.wrong("a line of type %q before the %q that ends what came before", kind, typeUntil)
	}
	e, err = r.other(kind)
	return e, true, err
}

// other returns the event of a line that is no part of an input.
func (r *Reader) other(kind string) (e Event, err error) {
	switch kind {
	case typeSnap:
		var l snapLine
		err = r.decode(&l)
		e.Snaps = []collector.Snap{l.snap()}
	case typeFilters:
		var l filtersLine
		err = r.decode(&l)
		e.Filters = l.Filters
	case typeNode:
		var l nodeLine
		err = r.decode(&l)
		e.Node = l.Node
	case typeLosses:
		l := lossesLine{Losses: &Losses{}}
		err = r.decode(&l)
		e.Losses = l.Losses
	case typePath:
		e.Path, err = r.path()
	case typeLedger:
		var l ledgerLine
		err = r.decode(&l)
		e.Ledger = l.Ledger
	case typeCounts:
		var l countsLine
		err = r.decode(&l)
		counts := l.ledgers()
		e.Counts = &counts
	case typeEnd:
		var l endLine
		err = r.decode(&l)
		e.End, r.done = &End{Ledgers: l.ledgers(), RulingsLost: l.RulingsLost, DropsMissed: l.DropsMissed, Cost: collector.Cost(l.Cost)}, true
	case typeNext:
		var l nextLine
		err = r.decode(&l)
		e.Next, r.done = l.File, true
	default:
		return e, r.wrong("a line of type %q is unknown", kind)
	}
	if err == nil && e.empty() {
		err = r.wrong("a line of type %q without content", kind)
	}
	return e, err
}

// path returns what follows the type, if the line is as it is written: paths are half
// of a recording, and to look at each byte takes longer than all the rest.
func (r *Reader) path() (*Path, error) {
	if rest, ok := bytes.CutPrefix(r.line, []byte(`{"type":"path","path":{`)); ok && !r.unended {
		if n := len(rest) - len("}}"); n >= 0 && string(rest[n:]) == "}}" {
			return &Path{JSON: r.line[len(r.line)-len(rest)-1 : len(r.line)-1]}, nil
		}
	}
	var l pathLine
	err := r.decode(&l)
	if l.Path == nil {
		return nil, err
	}
	return &Path{JSON: l.Path}, err
}

// add adds the line to the input.
func (r *Reader) add(kind string) error {
	in := &r.input
	switch kind {
	case typeSighting:
		run, err := r.run()
		if err == nil {
			in.Runs = append(in.Runs, run)
		}
		return err
	case typeDrop:
		return decodeInto(r, &in.Drops, (*dropLine).drop)
	case typePassage:
		return decodeInto(r, &in.Passages, (*passageLine).passage)
	}
	return decodeInto(r, &in.Rulings, (*rulingLine).ruling)
}

// decodeInto appends the line, which is an L, to *to.
func decodeInto[L, T any](r *Reader, to *[]T, of func(*L) T) error {
	var l L
	if err := r.decode(&l); err != nil {
		return err
	}
	*to = append(*to, of(&l))
	return nil
}

func (r *Reader) run() (run collector.Run, err error) {
	l := &r.sighting
	if !l.scan(r.line, &r.tuple) {
		*l = sightingLine{}
		if err := r.decode(l); err != nil {
			return run, err
		}
	}
	if len(l.Steps) > bpf.MaxSteps {
		return run, r.wrong("a sighting with %d steps (want at most %d)", len(l.Steps), bpf.MaxSteps)
	}
	run.Sighting = l.sighting()
	run.Steps = uint8(len(l.Steps))
	for i, s := range l.Steps {
		run.Rest[i] = bpf.Step{Hop: s.Hop, DeltaNS: s.DeltaNS}
	}
	return run, nil
}

// kind returns the line's type.
func (r *Reader) kind() (string, error) {
	// As they are written, which saves reading the line twice.
	if rest, ok := bytes.CutPrefix(r.line, []byte(`{"type":"`)); ok {
		if kind, _, ok := bytes.Cut(rest, []byte(`"`)); ok {
			return string(kind), nil
		}
	}
	var head struct {
		Type string `json:"type"`
	}
	if err := r.decode(&head); err != nil {
		return "", err
	}
	return head.Type, nil
}

// decode reads the line into v.
func (r *Reader) decode(v any) error {
	err := json.Unmarshal(r.line, v)
	var misfit *json.UnmarshalTypeError
	switch {
	case errors.As(err, &misfit):
		field := misfit.Field[strings.LastIndexByte(misfit.Field, '.')+1:]
		return r.wrong("%q cannot be a %s (want %s)", field, misfit.Value, misfit.Type)
	case err != nil:
		return r.wrong("%w", err)
	}
	return nil
}

// wrong returns an error about the line.
func (r *Reader) wrong(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	if r.name == "" {
		return fmt.Errorf("line %d: %w", r.num, err)
	}
	return fmt.Errorf("%s:%d: %w", r.name, r.num, err)
}

// about returns an error about the recording.
func (r *Reader) about(err error) error {
	var named *fs.PathError
	if errors.As(err, &named) {
		return fmt.Errorf("reading a recording: %w", err)
	}
	if r.name == "" {
		return err
	}
	return fmt.Errorf("%s: %w", r.name, err)
}

// Close closes the file that [OpenFile] opened.
func (r *Reader) Close() error {
	if r.file == nil {
		return nil
	}
	return r.file.Close()
}

// next reads the next line that is not empty.
func (r *Reader) next() error {
	for {
		r.line = r.line[:0]
		r.num++
		for {
			part, err := r.in.ReadSlice('\n')
			r.line = append(r.line, part...)
			if len(r.line) > longestLine {
				return r.wrong("the line is longer than %d bytes", longestLine)
			}
			if err == bufio.ErrBufferFull {
				continue
			}
			r.unended = err == io.EOF
			if err == io.EOF && len(r.line) == 0 {
				return io.EOF
			}
			if err != nil && err != io.EOF {
				return r.about(err)
			}
			break
		}
		if r.line = bytes.TrimSpace(r.line); len(r.line) > 0 {
			return nil
		}
	}
}
