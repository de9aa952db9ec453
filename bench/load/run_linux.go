package load

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsbpf/nsbpf/internal/netns"
)

// running is a load that is on.
type running struct {
	Spec
	out  Outcome
	over atomic.Bool // the senders are to end
	sent atomic.Bool // they did, and nothing more is on the way

	senders, receivers crew
	start              time.Time
	overNS             uint64 // CLOCK_MONOTONIC, when generators of frames were told to end
}

// Run puts the load s on its path for its duration and returns what became of it.
//
// When ctx ends before, Run returns what there is, with ctx's error. In either
// case no socket, program or thread of it is left in the namespaces, and what it
// attached to a device is gone. What others attached stays, and stays in force.
//
// The errors say what is wrong with s (see [Spec.Check]), or why the path cannot
// carry the load.
func Run(ctx context.Context, s Spec) (Outcome, error) {
	s, err := s.Check()
	if err != nil {
		return Outcome{}, err
	}
	if err := ctx.Err(); err != nil {
		return Outcome{}, err
	}
	self, err := netns.OpenSelf()
	if err != nil {
		return Outcome{}, err
	}
	defer self.Close()
	r := &running{Spec: s}
	if len(r.CPUs) == 0 {
		if r.CPUs, err = ownCPUs(); err != nil {
			return Outcome{}, err
		}
	}
	r.out.Senders, r.out.Receivers = share(r.CPUs, r.Threads)
	r.senders, r.receivers = crew{ns: self, cpus: r.out.Senders}, crew{ns: self, cpus: r.out.Receivers}
	if err := r.accounted(ctx, self); err != nil {
		return r.out, fmt.Errorf("load %s to %s by %s: %w", s.From, s.To, s.Mode, err)
	}
	return r.out, ctx.Err()
}

// accounted runs the load with the kernel's drops counted.
func (r *running) accounted(ctx context.Context, self *os.File) error {
	lost, err := countLosses(self, append([]Place{r.From, r.To}, r.Via...))
	if err != nil {
		return err
	}
	defer lost.close()
	run := map[Mode]func(context.Context, *losses) error{
		TCP: r.tcp, UDP: r.udp, RR: r.rr, CRR: r.crr, PPS: r.live, SKB: r.live,
	}[r.Mode]
	if err := run(ctx, lost); err != nil {
		return err
	}
	var shot uint64 // by the sink at tc, which the kernel takes for a drop
	if r.out.Sink == sinkTCX {
		shot = r.out.Received.Packets
	}
	known, err := lost.read(r.To.Node, shot)
	if err != nil {
		return err
	}
	r.out.settle(append(known, r.out.Lost...))
	r.out.Notes = append(r.out.Notes, lost.notes...)
	return nil
}

// measure starts the threads that begin starts, and when it returns lets them work for the duration or
// until ctx ends, and joins them.
func (r *running) measure(ctx context.Context, begin func()) error {
	before := readMachineTime()
	r.start = time.Now()
	stop := context.AfterFunc(ctx, func() { r.over.Store(true) })
	defer stop()
	begin()
	timer := time.AfterFunc(r.Duration, func() { r.over.Store(true) })
	defer timer.Stop()
	err := r.senders.join()
	r.sent.Store(true)
	err = errors.Join(err, r.receivers.join())
	after := readMachineTime()
	r.out.SenderCPU, r.out.ReceiverCPU = r.senders.time(), r.receivers.time()
	r.out.Softirqd = after.softirqd - before.softirqd
	r.out.SoftirqCPU, r.out.BusyCPU = after.softirq-before.softirq, after.busy-before.busy
	return err
}

// monotonic returns the time as programs in the kernel read it.
func monotonic() uint64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return uint64(ts.Nano())
}

// last keeps the latest of times.
type last struct{ ns atomic.Int64 }

// note takes t into account.
func (l *last) note(t time.Duration) {
	for {
		old := l.ns.Load()
		if int64(t) <= old || l.ns.CompareAndSwap(old, int64(t)) {
			return
		}
	}
}

// or returns the latest time, or t if there was none.
func (l *last) or(t time.Duration) time.Duration {
	return cmp.Or(time.Duration(l.ns.Load()), t)
}
