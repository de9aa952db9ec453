package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/nsbpf/nsbpf/forward"
	"github.com/nsbpf/nsbpf/report"
	"github.com/nsbpf/nsbpf/trace"
	"github.com/nsbpf/nsbpf/trace/recording"
	"github.com/nsbpf/nsbpf/trace/why"
)

// pathPrinter writes the paths of a session as they complete, and records them.
type pathPrinter struct {
	env     *env
	run     traceRun
	session *session
	want    func(*trace.Path) bool // nil: all
	out     *bufio.Writer
	write   func(*trace.Path, *why.Conclusion) error // nil: nothing is written
	times   *trace.EdgeTimes                         // of a summary
	enough  context.CancelFunc
	printed uint64
	ended   bool // as it should

	// Of a recording.
	line     bytes.Buffer
	lineJSON *report.PathJSON
}

// newPathPrinter returns a printer that calls enough when it has printed as many
// paths as it was to. It is to be opened.
func newPathPrinter(e *env, run traceRun, enough context.CancelFunc) *pathPrinter {
	return &pathPrinter{env: e, run: run, out: bufio.NewWriterSize(e.stdout, 1<<16), enough: enough}
}

// open makes the printer ready for the paths of s.
func (p *pathPrinter) open(s *session) (err error) {
	p.session, s.flush = s, p.out.Flush
	hops, lab := s.start.Hops, s.start.Lab
	if p.want, err = p.run.selection(hops); err != nil {
		return err
	}
	switch {
	case p.run.summary:
		p.times = trace.NewEdgeTimes(s.start.Edges)
	case p.run.quiet:
	case p.run.json:
		p.write = report.NewPathJSON(p.out, lab, hops, s.start.EpochNS).Path
	default:
		p.write = report.NewPathText(p.out, hops, p.env.style()).Path
	}
	if p.run.file == "" {
		return nil
	}
	p.lineJSON = report.NewPathJSON(&p.line, lab, hops, s.start.EpochNS)
	s.record, err = recording.Create(p.run.file, s.start, p.run.recording)
	return err
}

// print writes one path; those beyond what was asked for are left out.
func (p *pathPrinter) print(path *trace.Path) error {
	if p.run.count > 0 && p.printed >= p.run.count || p.want != nil && !p.want(path) {
		return nil
	}
	p.printed++
	if p.times != nil {
		p.times.Add(path)
	}
	if p.write != nil || p.session.record != nil {
		if err := p.explain(path); err != nil {
			return err
		}
	}
	if p.printed == p.run.count {
		p.enough()
	}
	return nil
}

// explain writes the path, and why it ended, wherever it is to be written.
func (p *pathPrinter) explain(path *trace.Path) error {
	c, err := p.session.why(path)
	if err != nil {
		return err
	}
	if p.write != nil {
		if err := p.write(path, c); err != nil {
			return err
		}
	}
	if p.session.record == nil {
		return nil
	}
	p.line.Reset()
	if err := p.lineJSON.Path(path, c); err != nil {
		return err
	}
	comment := ""
	if c != nil {
		comment = c.Sentence
	}
	return p.session.write(recording.Event{Path: &recording.Path{JSON: p.line.Bytes(), Joined: path, Comment: comment}})
}

// end prints the totals. Under --strict, what was lost is an error.
// A nil end is that of a recording without one.
func (p *pathPrinter) end(end *recording.End) error {
	s := p.session
	c := report.Closing{Lab: s.start.Lab, Totals: s.joiner.Totals(), Unended: end == nil}
	if end != nil {
		c.Ledgers, c.Cost = end.Ledgers, end.Cost
		c.RulingsLost, c.DropsMissed = end.RulingsLost, end.DropsMissed
	}
	c.Losses = make(map[string][]forward.Loss)
	for node, losses := range s.losses {
		if len(losses) > 0 {
			c.Losses[node] = losses
		}
	}
	if s.start.Rate == 0 { // what a rate lets pass is no sample, from which all could be told
		c.Sample = s.start.Sample
	}
	if p.want != nil {
		c.Shown = &p.printed
	}
	if p.times != nil {
		if err := p.summary(); err != nil {
			return err
		}
	}
	var err error
	if p.run.json {
		err = report.ClosingJSON(p.out, c)
	} else {
		err = report.ClosingText(p.out, c, p.env.style())
		if end != nil {
			p.env.say("%s", report.CostText(end.Cost))
		}
	}
	if err := errors.Join(err, p.out.Flush(), p.recordEnd(c, end)); err != nil {
		return err
	}
	p.ended = true
	switch lost := c.Lost(); {
	case !p.run.strict:
	case end == nil:
		return errors.New("the recording has no end: what was lost is not known")
	case lost > 0:
		return fmt.Errorf("%d events were lost (a larger --ring, --sample, or an expression that matches less, loses fewer)", lost)
	case c.Totals.GivenUp > 0:
		return fmt.Errorf("%d paths were given up (--sample, or an expression that matches less, has fewer open at once)", c.Totals.GivenUp)
	}
	return nil
}

// recordEnd writes the end of the recording, if there is one.
func (p *pathPrinter) recordEnd(c report.Closing, end *recording.End) error {
	if p.session.record == nil || end == nil {
		return nil
	}
	p.line.Reset()
	if err := report.ClosingJSON(&p.line, c); err != nil {
		return err
	}
	return errors.Join(
		p.session.write(recording.Event{Ledger: p.line.Bytes()}),
		p.session.write(recording.Event{End: end}))
}

// Close closes the recording, and says where it is.
func (p *pathPrinter) Close() error {
	if p.session == nil || p.session.record == nil {
		return nil
	}
	record := p.session.record
	p.session.record = nil
	if err := record.Close(); err != nil || !p.ended {
		return err
	}
	switch names := record.Names(); len(names) {
	case 1:
		p.env.say("recorded in %s", names[0])
	default:
		p.env.say("recorded in %d files, %s to %s", len(names), names[0], names[len(names)-1])
	}
	return nil
}

// summary prints how long the edges took.
func (p *pathPrinter) summary() error {
	s := p.session
	now, span := s.now()
	l := &report.Latency{
		Lab: s.start.Lab, Time: now, Span: span, Sample: s.start.Sample,
		Hops: s.start.Hops, Edges: p.times.Edges(),
	}
	if p.run.json {
		return report.LatencyJSON(p.out, l)
	}
	if err := report.LatencyTable(p.out, l, p.env.style()); err != nil {
		return err
	}
	_, err := p.out.WriteString("\n")
	return err
}
