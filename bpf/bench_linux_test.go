package bpf

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/ringbuf"

	"github.com/nsbpf/nsbpf/internal/testenv"
)

// BenchmarkEmpty is the floor: what the kernel's test run costs by itself.
func BenchmarkEmpty(b *testing.B) {
	testenv.Root(b)
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type:         ebpf.SchedCLS,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()},
		License:      "GPL",
	})
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	measure(b, p)
}

func BenchmarkCountTC(b *testing.B) {
	coll := load(b, spec(b, CountSpec), ProgCountTC, Site{Hop: testHop, Ethernet: true})
	measure(b, coll.Programs[CopyName(ProgCountTC, testHop)])
}

func BenchmarkFilterTC(b *testing.B) {
	for name, body := range map[string]asm.Instructions{"drop": matchAll, "pass": matchNone} {
		b.Run(name, func(b *testing.B) {
			coll := load(b, matching(b, FilterSpec, body), ProgFilterTC, Site{Hop: testHop, Ethernet: true})
			measure(b, coll.Programs[CopyName(ProgFilterTC, testHop)])
		})
	}
}

func BenchmarkTraceTC(b *testing.B) {
	const high, never = 1 << 20, 1 << 40 // bytes from which the reader is woken
	for _, c := range []struct {
		name   string
		body   asm.Instructions
		drain  bool
		wakeAt uint64
		snap   int
	}{
		{"filtered", matchNone, false, never, 0},
		{"full ring", matchAll, false, never, 0},
		{"drained by a timer", matchAll, true, never, 0},
		{"drained and woken", matchAll, true, high, 0},
		{"drained, with bytes", matchAll, true, never, 256},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := matching(b, TraceSpec, c.body)
			if err := errors.Join(SetWakeAt(s, c.wakeAt), SetSnap(s, c.snap)); err != nil {
				b.Fatal(err)
			}
			coll := load(b, s, ProgTraceTC, Site{Hop: testHop, Ethernet: true, Terminal: true})
			if c.drain {
				defer empty(b, coll.Maps[MapRing])()
			}
			measure(b, coll.Programs[CopyName(ProgTraceTC, testHop)])
			l := drainLedgers(b, coll)[uint32(testHop)]
			b.ReportMetric(float64(l.Lost)/float64(l.Seen), "lost/pkt")
		})
	}
}

// What a trace adds to a packet at XDP: while it runs, and when it was killed.
func BenchmarkTapXDP(b *testing.B) {
	count := load(b, spec(b, CountSpec), ProgCountXDP, Site{Hop: testHop, Ethernet: true}).Programs[CopyName(ProgCountXDP, testHop)]
	b.Run("no trace", func(b *testing.B) { measure(b, count) })
	for _, c := range []struct {
		name string
		body asm.Instructions
		tap  bool
	}{{"killed", matchAll, false}, {"filtered", matchNone, true}, {"full ring", matchAll, true}} {
		b.Run(c.name, func(b *testing.B) {
			s := matching(b, TraceSpec, c.body)
			coll := loadTapped(b, s, s, count)
			if !c.tap {
				if err := coll.Maps[MapTaps].Delete(uint32(testHop)); err != nil {
					b.Fatal(err)
				}
			}
			measure(b, coll.Programs[CopyName(ProgGateXDP, testHop)])
		})
	}
}

// measure reports what p takes of a TCP packet, without the system calls.
func measure(b *testing.B, p *ebpf.Program) {
	b.Helper()
	f := readings(b)["tcp with timestamp"].frame
	b.ResetTimer()
	_, d, err := p.Benchmark(f, b.N, b.ResetTimer)
	if err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	b.ReportMetric(float64(d.Nanoseconds()), "ns/pkt")
}

// empty reads the ring until the function that it returns is called.
func empty(b *testing.B, m *ebpf.Map) (stop func()) {
	b.Helper()
	r, err := ringbuf.NewReader(m)
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		var rec ringbuf.Record
		for {
			r.SetDeadline(time.Now().Add(time.Millisecond))
			var err error
			for err == nil {
				err = r.ReadInto(&rec)
			}
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				done <- err
				return
			}
		}
	}()
	return func() {
		r.Close()
		if err := <-done; !errors.Is(err, ringbuf.ErrClosed) {
			b.Error(err)
		}
	}
}
