package load

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/internal/netns"
)

const (
	// liveBatch is how many frames the kernel makes before it hands them on. More
	// are no faster.
	liveBatch = 64
	// forever is how often a generator runs, unless it is interrupted.
	forever = 1<<32 - 1
	// settling is how long nothing may come to the sink before what is missing is lost.
	settling = 50 * time.Millisecond
	// trying is how long a path may take to let the first frame through.
	trying = 2 * time.Second
	// firstPort is the source port of the first flow.
	firstPort = 32768
)

// generator is one thread's program that makes frames.
type generator struct {
	coll    *ebpf.Collection
	ifindex int // that frames are said to come from
	memory  []byte
}

// live runs frames that a program makes.
func (r *running) live(ctx context.Context, lost *losses) error {
	w, err := r.survey()
	if err != nil {
		return err
	}
	sink, err := w.prepare()
	if sink != nil {
		defer sink.close()
	}
	if err != nil {
		return err
	}
	r.out.Sink = sink.kind
	if err := r.try(ctx, w, sink, lost); err != nil {
		return err
	}
	gens := make([]*generator, r.Threads)
	defer func() {
		for _, g := range gens {
			g.close()
		}
	}()
	for i := range gens {
		if gens[i], err = w.newGenerator(r.traffic(w, i)); err != nil {
			return err
		}
	}
	before, err := sink.count()
	if err != nil {
		return err
	}
	if err := errors.Join(lost.reset(), w.readDevices()); err != nil {
		return err
	}
	err = r.inject(ctx, w, gens)
	return errors.Join(err, r.settleFrames(gens, sink, before), r.countDevices(w))
}

// inject runs the generators for the duration.
func (r *running) inject(ctx context.Context, w *way, gens []*generator) error {
	r.senders.ns = w.inside(r.senders.ns)
	ended := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() { // a generator looks at nothing while it runs
		for t := time.NewTicker(time.Millisecond); ; {
			select {
			case <-ended:
				t.Stop()
				return
			case <-t.C:
				if !r.over.Load() {
					continue
				}
				if r.overNS == 0 {
					r.overNS = monotonic()
				}
				r.senders.interrupt()
			}
		}
	})
	err := r.measure(ctx, func() {
		for i, g := range gens {
			r.senders.start(i, func() error {
				for !r.over.Load() {
					if err := g.run(forever); err != nil {
						return err
					}
				}
				return nil
			})
		}
		r.awaitFirst(gens)
	})
	close(ended)
	watch.Wait()
	return err
}

// awaitFirst returns when each generator has made a frame, or will make none: the
// kernel takes tens of ms to prepare, which are not of the duration.
func (r *running) awaitFirst(gens []*generator) {
	for _, g := range gens {
		for !r.over.Load() && !r.senders.failed() {
			if t, err := g.tally(); err != nil || t.StartNs > 0 {
				break
			}
			time.Sleep(time.Millisecond)
		}
	}
}

// traffic returns what the nth thread's generator sends.
func (r *running) traffic(w *way, nth int) bpf.Traffic {
	each := (r.Flows + r.Threads - 1) / r.Threads
	f := w.frame
	t := bpf.Traffic{
		Transport: f.transport(), Flows: min(each, max(1, r.Flows-nth*each)),
		FirstPort: uint16(firstPort + nth*each%maxFlows),
		Rate:      r.packetRate() / float64(r.Threads), Up: r.Mode == SKB,
	}
	for _, n := range r.sizes() {
		t.Shapes = append(t.Shapes, f.shape(n))
	}
	return t
}

// try sends single frames until one arrives: bridges learn, addresses are resolved.
// A path that lets none through is refused.
func (r *running) try(ctx context.Context, w *way, sink *sink, lost *losses) error {
	t := r.traffic(w, 0)
	t.Rate = 0
	g, err := w.newGenerator(t)
	if err != nil {
		return err
	}
	defer g.close()
	if err := lost.reset(); err != nil {
		return err
	}
	for deadline := time.Now().Add(trying); time.Now().Before(deadline); {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := netns.Do(w.inside(nil), func() error { return g.run(1) }); err != nil {
			return err
		}
		got, err := sink.wait(1)
		if err != nil || got.Packets > 0 {
			return err
		}
	}
	sent, err := g.tally()
	if err != nil {
		return err
	}
	err = fmt.Errorf("of %d frames that went into %s none came to %s", sent.Packets, w.first, r.To)
	if known, lerr := lost.read("", 0); lerr == nil && len(known) > 0 {
		o := Outcome{Sent: Tally{Packets: sent.Packets}}
		o.settle(known)
		err = fmt.Errorf("%w: dropped by %s in %s (%s)", err, o.Lost[0].Place, o.Lost[0].Node, o.Lost[0].Reason)
	}
	return err
}

// settleFrames waits for what is on its way, and counts.
func (r *running) settleFrames(gens []*generator, sink *sink, before bpf.Arrival) error {
	var first uint64
	for _, g := range gens {
		t, err := g.tally()
		if err != nil {
			return err
		}
		if t.Failed > 0 {
			return fmt.Errorf("%d frames could not be made", t.Failed)
		}
		r.out.Sent.Packets += t.Packets
		r.out.Sent.Bytes += t.Bytes
		if t.StartNs > 0 && (first == 0 || t.StartNs < first) {
			first = t.StartNs
		}
	}
	got, err := sink.wait(before.Packets + r.out.Sent.Packets)
	if err != nil {
		return err
	}
	r.out.Received = Tally{got.Packets - before.Packets, got.Bytes - before.Bytes}
	if first > 0 && first < r.overNS {
		r.out.Elapsed = time.Duration(r.overNS - first)
	}
	return nil
}

// newGenerator loads a generator of its own for a thread.
func (w *way) newGenerator(t bpf.Traffic) (*generator, error) {
	spec, err := only(bpf.ProgGenerate)
	if err != nil {
		return nil, err
	}
	if err := bpf.SetTraffic(spec, t); err != nil {
		return nil, err
	}
	coll, err := ebpf.NewCollection(spec)
	if err != nil {
		return nil, fmt.Errorf("load the generator: %w", err)
	}
	longest := 0
	for _, s := range t.Shapes {
		longest = max(longest, int(s.Len))
	}
	g := &generator{coll: coll, ifindex: w.ifindex, memory: make([]byte, longest)}
	if t.Up {
		return g, nil
	}
	// The map takes a device of the namespace that it is filled in.
	err = netns.Do(w.inside(nil), func() error { return coll.Maps[bpf.MapOut].Put(uint32(0), uint32(w.ifindex)) })
	if err != nil {
		g.close()
		return nil, fmt.Errorf("put frames out of %s: %w", w.from, err)
	}
	return g, nil
}

func (g *generator) close() {
	if g != nil {
		g.coll.Close()
	}
}

func (g *generator) tally() (t bpf.Tally, err error) {
	if err = g.coll.Maps[bpf.MapTallies].Lookup(uint32(0), &t); err != nil {
		err = fmt.Errorf("read what was sent: %w", err)
	}
	return t, err
}

// run makes n frames in the caller's namespace, or fewer if a signal comes.
func (g *generator) run(n uint32) error {
	return runLive(g.coll.Programs[bpf.ProgGenerate].FD(), g.ifindex, g.memory, n)
}

// runLive runs an XDP program on n live frames like data, which come from a device
// of the caller's namespace. A signal ends it before, which is no error: the
// library would begin again, so the system call is made here.
func runLive(prog, ifindex int, data []byte, n uint32) error {
	const testRun, liveFrames = 10, 1 << 1                         // BPF_PROG_TEST_RUN, BPF_F_TEST_XDP_LIVE_FRAMES
	context := [6]uint32{1: uint32(len(data)), 3: uint32(ifindex)} // struct xdp_md
	var pins runtime.Pinner
	defer pins.Unpin()
	pins.Pin(&data[0])
	pins.Pin(&context)
	attr := struct { // union bpf_attr, test
		prog, verdict, dataLen, outLen   uint32
		data, out                        uint64
		repeat, duration                 uint32
		contextLen, contextOutLen        uint32
		context, contextOut              uint64
		flags, cpu, batchSize, _reserved uint32
	}{
		prog: uint32(prog), dataLen: uint32(len(data)), data: uint64(uintptr(unsafe.Pointer(&data[0]))),
		repeat: n, contextLen: uint32(unsafe.Sizeof(context)), context: uint64(uintptr(unsafe.Pointer(&context))),
		flags: liveFrames, batchSize: min(n, liveBatch),
	}
	_, _, errno := unix.Syscall(unix.SYS_BPF, testRun, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	switch errno {
	case 0, unix.EINTR:
		return nil
	case unix.EINVAL:
		return fmt.Errorf("run a program on live frames: %w (needs Linux 5.18)", errno)
	}
	return os.NewSyscallError("run a program on live frames", errno)
}
