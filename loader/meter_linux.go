package loader

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// RunTime is how long programs ran, by the kernel's own statistics.
type RunTime struct {
	Runs uint64
	Time time.Duration // of all runs, without what measuring them takes
}

func (r RunTime) sub(o RunTime) RunTime { return RunTime{r.Runs - o.Runs, r.Time - o.Time} }
func (r RunTime) add(o RunTime) RunTime { return RunTime{r.Runs + o.Runs, r.Time + o.Time} }

// Statistics cost every program of the machine some 70 ns a run, so they are on
// until enough runs were measured, and after that for a moment now and then.
const (
	meterEnough  = 5000
	meterFirst   = time.Millisecond // after which it is looked whether it is enough; then twice as long
	meterLongest = 500 * time.Millisecond
	meterWindow  = 5 * time.Millisecond
	meterPause   = time.Second
)

// Meter measures what the trace's programs at the hops cost, until ctx is done, and returns
// it; no runs are no error. It needs Linux 5.8.
func (t *Trace) Meter(ctx context.Context) (r RunTime, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("measuring the trace programs: %w", err)
		}
	}()
	empty, err := emptyRun()
	if err != nil {
		return r, err
	}
	all, err := t.window(ctx, meterFirst, meterEnough)
	for err == nil && rest(ctx, meterPause) {
		var more RunTime
		more, err = t.window(ctx, meterWindow, 0)
		all = all.add(more)
	}
	all.Time = max(0, all.Time-empty*time.Duration(all.Runs))
	return all, err
}

// window measures for a time, and on as long as fewer runs than enough were
// measured.
func (t *Trace) window(ctx context.Context, d time.Duration, enough uint64) (r RunTime, err error) {
	stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, stats.Close()) }()
	before, err := t.runTime()
	for more := true; more && err == nil; d = min(2*d, meterLongest) {
		more = rest(ctx, d)
		var after RunTime
		after, err = t.runTime()
		r = after.sub(before)
		more = more && r.Runs < enough
	}
	return r, err
}

// rest waits, and says whether ctx goes on.
func rest(ctx context.Context, d time.Duration) (more bool) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

func (t *Trace) runTime() (r RunTime, err error) {
	for _, at := range t.Hops {
		p := t.entry(at.ID)
		if p == nil {
			continue // XDP: its gate's time has the body in it
		}
		s, err := p.Stats()
		if err != nil {
			return r, err
		}
		r = r.add(RunTime{s.RunCount, s.Runtime})
	}
	return r, nil
}

// emptyRun returns what the statistics give for an empty program.
func emptyRun() (d time.Duration, err error) {
	stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, stats.Close()) }()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		return 0, err
	}
	defer p.Close()
	const runs = 1000
	if _, err := p.Run(&ebpf.RunOptions{Data: make([]byte, 64), Repeat: runs}); err != nil {
		return 0, err
	}
	s, err := p.Stats()
	if err != nil || s.RunCount == 0 {
		return 0, err
	}
	return s.Runtime / time.Duration(s.RunCount), nil
}
