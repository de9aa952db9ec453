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
	enough  context.CancelFunc
	printed uint64
	err     error
}

func newPathPrinter(e *env, lab *topology.Lab, hops []hop.Hop, run traceRun, enough context.CancelFunc) *pathPrinter {
	p := &pathPrinter{env: e, lab: lab.Name, run: run, out: bufio.NewWriterSize(e.stdout, 1<<16), enough: enough}
	switch {
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

// end prints the totals. Under --strict, lost events are an error.
func (p *pathPrinter) end(tr *loader.Trace, totals trace.Totals) error {
	ledgers, err := collector.ReadLedgers(tr.Ledgers, tr.Hops)
	if err != nil {
		return err
	}
	if p.run.json {
		err = report.LedgerJSON(p.out, p.lab, totals, ledgers.Total)
	} else {
		err = report.LedgerText(p.out, totals, ledgers.Total, p.env.style())
	}
	if err := errors.Join(p.err, err, p.out.Flush()); err != nil {
		return err
	}
	if lost := ledgers.Total.Lost; p.run.strict && lost > 0 {
		return fmt.Errorf("%d events were lost (a larger --ring, or an expression that matches less, loses fewer)", lost)
	}
	return nil
}
