package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/nsbpf/nsbpf/forward"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/ping"
	"github.com/nsbpf/nsbpf/report"
	"github.com/nsbpf/nsbpf/trace"
	"github.com/nsbpf/nsbpf/trace/why"
)

// pingPrinter brings probes and paths together and prints them, in the order in
// which the probes were concluded. Two goroutines call it.
type pingPrinter struct {
	env     *env
	flags   *pingFlags
	journey *forward.Journey // what is expected; nil: nothing
	out     *bufio.Writer
	write   func(*trace.Path, *why.Conclusion) error
	session *session

	mutex  sync.Mutex
	paths  probePaths
	report report.Ping
	shown  int // of the report's probes
	last   [2][]hop.ID
	whole  chan struct{} // gets a word when the paths of all probes are known
	over   bool          // all probes were sent
}

func newPingPrinter(e *env, w way, o ping.Options, f *pingFlags, prober *ping.Prober) *pingPrinter {
	return &pingPrinter{
		env: e, flags: f, out: bufio.NewWriter(e.stdout),
		whole: make(chan struct{}, 1),
		report: report.Ping{
			Lab: w.lab.Name, From: w.from, To: w.to, Options: o, Source: prober.Source(), MTU: prober.MTU(),
		},
	}
}

// target names what is probed.
func (p *pingPrinter) target() string {
	if dst := p.report.Options.Dst.String(); p.report.To != dst {
		return p.report.To + " (" + dst + ")"
	}
	return p.report.To
}

// open makes the printer ready for the paths of s.
func (p *pingPrinter) open(s *session) {
	p.session, p.report.Hops = s, s.start.Hops
	p.paths = newProbePaths(p.report.From, s.start.Hops)
	if p.flags.json {
		p.write = report.NewPathJSON(p.out, s.start.Lab, s.start.Hops, s.start.EpochNS).Path
	} else {
		p.write = report.NewPathText(p.out, s.start.Hops, p.env.style()).Path
	}
}

// afterwards is how long paths are waited for when no probe is on its way: those
// that were lost are known later than what was delivered.
const afterwards = time.Second

// run sends the probes, and prints all there is to say. The error says so if no
// probe was answered.
func (p *pingPrinter) run(ctx context.Context, l *live, prober *ping.Prober) error {
	follow, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var g errgroup.Group
	g.Go(func() error {
		defer stop()
		results, err := prober.Run(ctx, p.concluded)
		p.end(results)
		select {
		case <-p.whole:
		case <-time.After(afterwards):
		case <-ctx.Done():
		case <-follow.Done():
		}
		return uninterrupted(ctx, err)
	})
	end, err := l.follow(follow)
	stop()
	if err := errors.Join(err, g.Wait()); err != nil {
		return err
	}
	if n := end.Ledgers.Total.Lost; n > 0 {
		p.env.warn("%s were lost: the paths of some probes may not be known", plural(int(n), "event"))
	}
	return p.close()
}

// add takes a path.
func (p *pingPrinter) add(path *trace.Path) error {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if its, err := p.paths.add(path, p.session.why); err != nil || !its {
		return err
	}
	return p.show(false)
}

// concluded takes a probe of which the answer is there, or will not come.
func (p *pingPrinter) concluded(probe ping.Probe) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.report.Probes = append(p.report.Probes, report.Probe{Probe: probe})
}

// end takes the word that all probes were concluded.
func (p *pingPrinter) end(results ping.Results) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.report.Results, p.over = results, true
	p.check()
}

// check says so when nothing is missing.
func (p *pingPrinter) check() {
	if !p.over {
		return
	}
	for i := range p.report.Probes {
		if !p.find(&p.report.Probes[i]) {
			return
		}
	}
	select {
	case p.whole <- struct{}{}:
	default:
	}
}

// find looks for the paths of a probe, and reports whether none is missing.
func (p *pingPrinter) find(pr *report.Probe) bool {
	j := p.journey
	return p.paths.find(pr, j != nil && j.End == forward.Delivered && len(j.Steps) == 0)
}

// show prints the probes whose paths are known, and at the end all.
func (p *pingPrinter) show(all bool) error {
	for ; p.shown < len(p.report.Probes); p.shown++ {
		pr := &p.report.Probes[p.shown]
		if !p.find(pr) && !all {
			break
		}
		if err := p.probe(pr); err != nil {
			return err
		}
	}
	p.check()
	return p.out.Flush()
}

// probe prints one probe.
func (p *pingPrinter) probe(pr *report.Probe) error {
	if !p.flags.json {
		fmt.Fprintln(p.out, report.ProbeText(&pr.Probe, p.report.Options.Timeout, p.env.style()))
	}
	arrived := pr.Answer != nil && pr.Answer.Reached(pr.Key.Dst)
	for i, path := range []*trace.Path{pr.Forward, pr.Back} {
		if path == nil {
			continue
		}
		if i == 0 {
			p.report.Forward.Add(path, arrived)
		} else {
			p.report.Back.Add(path, pr.Answer != nil)
		}
		way := wayOf(path)
		if p.flags.json || p.flags.verbose || !slices.Equal(way, p.last[i]) {
			if err := p.write(path, []*why.Conclusion{pr.ForwardWhy, pr.BackWhy}[i]); err != nil {
				return err
			}
		}
		p.last[i] = way
	}
	p.compare(pr)
	return nil
}

// wayOf returns the hops of a path, and how it ended behind them.
func wayOf(path *trace.Path) []hop.ID {
	var ids []hop.ID
	for i := range path.Steps {
		ids = append(ids, path.Steps[i].HopID())
	}
	return append(ids, hop.ID(path.Verdict))
}

// compare notes where a probe or its answer went another way than expected, each
// difference once.
func (p *pingPrinter) compare(pr *report.Probe) {
	note := func(what string, j *forward.Journey, path *trace.Path) {
		if j == nil || path == nil {
			return
		}
		d := ping.Differ(j, path, p.report.Hops)
		if d == "" {
			return
		}
		d = what + ": " + d
		if !slices.Contains(p.report.Differences, d) {
			p.report.Differences = append(p.report.Differences, d)
		}
	}
	if p.journey == nil {
		return
	}
	note("forward", p.journey, pr.Forward)
	if a := pr.Answer; a == nil || a.Kind != ping.ICMPError {
		note("return", p.journey.Back, pr.Back)
	}
}

// stop returns what is to keep the probes from every hop, if none came to one, or
// else their answers; nil if nothing is known to.
func (p *pingPrinter) stop() *forward.Obstacle {
	if p.journey == nil {
		return nil
	}
	for i, j := range []*forward.Journey{p.journey, p.journey.Back} {
		seen := slices.ContainsFunc(p.report.Probes, func(pr report.Probe) bool {
			return []*trace.Path{pr.Forward, pr.Back}[i] != nil || i == 1 && pr.Answer != nil
		})
		if j != nil && !seen && len(j.Steps) == 0 && j.End == forward.Stopped {
			return &j.Obstacles[len(j.Obstacles)-1]
		}
	}
	return nil
}

// unanswered says whether probes left the lab as predicted, and nothing came back.
func (p *pingPrinter) unanswered() bool {
	if p.journey == nil || p.journey.End != forward.LeftLab {
		return false
	}
	left := false
	for i := range p.report.Probes {
		pr := &p.report.Probes[i]
		if pr.Back != nil || pr.Answer != nil {
			return false
		}
		left = left || pr.Forward != nil && pr.Forward.Verdict == trace.LeftLab
	}
	return left
}

// close prints what is left, and the totals.
func (p *pingPrinter) close() error {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if err := p.show(true); err != nil {
		return err
	}
	p.report.Stop = p.stop()
	if p.unanswered() {
		p.report.Differences = append(p.report.Differences, "return: nothing came in from outside the lab, of which nothing is known")
	}
	var err error
	if p.flags.json {
		err = report.PingJSON(p.out, &p.report)
	} else {
		err = report.PingText(p.out, &p.report, p.env.style())
	}
	if err := errors.Join(err, p.out.Flush()); err != nil {
		return err
	}
	if r := &p.report.Results; r.Answered == 0 && r.Sent+r.Unsent > 0 {
		return fmt.Errorf("no probe to %s was answered", p.target())
	}
	return nil
}
