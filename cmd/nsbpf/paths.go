package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/loader"
	"github.com/nsbpf/nsbpf/report"
	"github.com/nsbpf/nsbpf/topology"
	"github.com/nsbpf/nsbpf/trace"
)

// pathPrinter writes Paths as they complete.
type pathPrinter struct {
	env     *env
	lab     string
	run     traceRun
	out     *bufio.Writer
	write   func(*trace.Path) error
	times   *trace.EdgeTimes // of a summary
	hops    []hop.Hop
	start   time.Time
	enough  context.CancelFunc
	printed uint64
	err     error
}

func newPathPrinter(e *env, lab *topology.Lab, hops []hop.Hop, run traceRun, enough context.CancelFunc) *pathPrinter {
	p := &pathPrinter{env: e, lab: lab.Name, run: run, out: bufio.NewWriterSize(e.stdout, 1<<16), enough: enough}
	p.hops, p.start = hops, time.Now()
	switch {
	case run.summary:
		p.times = trace.NewEdgeTimes(lab.Topology.Edges(hops))
		p.write = func(path *trace.Path) error { p.times.Add(path); return nil }
	case run.quiet:
		p.write = func(*trace.Path) error { return nil }
	case run.json:
		epoch := time.Now().UnixNano() - int64(collector.Now())
		p.write = report.NewPathJSON(p.out, lab.Name, hops, epoch).Path
	default:
		p.write = report.NewPathText(p.out, hops, e.style()).Path
	}
	return p
}

// print writes one Path; those beyond what was asked for are left out.
func (p *pathPrinter) print(path *trace.Path) {
	if p.err != nil || p.run.count > 0 && p.printed >= p.run.count {
		return
	}
	if p.run.want != nil && !p.run.want(path) {
		return
	}
	p.printed++
	if p.err = p.write(path); p.err != nil || p.printed == p.run.count {
		p.enough()
	}
}

// flush shows what was printed, and returns the first error of writing.
func (p *pathPrinter) flush() error {
	if p.err != nil {
		return p.err
	}
	return p.out.Flush()
}

// end prints the totals. Under --strict, what was lost is an error.
func (p *pathPrinter) end(tr *loader.Trace, totals trace.Totals, cost collector.Cost) error {
	ledgers, err := collector.ReadLedgers(tr.Ledgers, tr.Hops)
	if err != nil {
		return err
	}
	c := report.Closing{Lab: p.lab, Totals: totals, Ledgers: ledgers, Cost: cost}
	if p.run.rate == 0 { // what a rate lets pass is no sample, from which all could be told
		c.Sample = uint32(p.run.sample)
	}
	if p.run.want != nil {
		c.Shown = &p.printed
	}
	if p.times != nil {
		if err := p.summary(); err != nil {
			return err
		}
	}
	if p.run.json {
		err = report.ClosingJSON(p.out, c)
	} else {
		err = report.ClosingText(p.out, c, p.env.style())
		p.env.say("%s", report.CostText(cost))
	}
	if err := errors.Join(p.err, err, p.out.Flush()); err != nil {
		return err
	}
	lost := ledgers.Total.Lost
	switch {
	case !p.run.strict:
	case lost > 0:
		return fmt.Errorf("%d events were lost (a larger --ring, --sample, or an expression that matches less, loses fewer)", lost)
	case totals.GivenUp > 0:
		return fmt.Errorf("%d paths were given up (--sample, or an expression that matches less, has fewer open at once)", totals.GivenUp)
	}
	return nil
}

// summary prints how long the edges took.
func (p *pathPrinter) summary() error {
	l := &report.Latency{
		Lab: p.lab, Time: time.Now(), Span: time.Since(p.start), Sample: uint32(p.run.sample),
		Hops: p.hops, Edges: p.times.Edges(),
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
