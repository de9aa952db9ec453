package collector

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

const (
	// batchSize bounds the records of one call; 512 runs stay in the cache.
	batchSize = 512
	// tick is how long a run may wait in the ring: below a high-water mark the
	// programs wake nobody, because a wake-up costs more than the rest of tracing
	// a packet. As often, the runs are swept that nobody ends. While nothing comes
	// it is twice as long each time, up to longestTick.
	tick        = 10 * time.Millisecond
	longestTick = 40 * time.Millisecond
	// idle is after how long without a further hop a run is swept.
	idle = 2 * time.Millisecond
	// span is how long a run may take from its first hop to the sweep's idle time:
	// RUN_NS of trace.c, and some for a program that is at it.
	span = 3 * time.Millisecond
)

// Now returns the time on the clock of [bpf.Sighting.TimeNS], CLOCK_MONOTONIC in ns.
func Now() uint64 {
	var ts unix.Timespec
	// It fails only for an unknown clock.
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return uint64(ts.Nano())
}

// Ring reads runs from the ring the trace programs write to, and makes them hand
// over those that nothing ends.
//
// It reads the ring's memory itself (kernel/bpf/ringbuf.c describes it), for two
// things that ringbuf.Reader does otherwise and that halve the rate of small
// packets: it tells the programs once a batch and not once a record how far it
// has read, which is a cache line that every program reads; and it sleeps while
// there is little to read, where a level-triggered wait returns at once.
type Ring struct {
	consumer []byte   // the page with our position
	producer []byte   // the page with the programs' position, and the data twice
	read     *uintptr // in consumer
	written  *uintptr // in producer
	data     []byte   // in producer
	mask     uintptr  // of the data's size
	epoll    int
	events   [1]unix.EpollEvent
	batch    Batch

	sweep *ebpf.Program
	swept uint64  // when
	until uint64  // everything before is in the ring; 0: that was said
	mark  uintptr // where the ring ended when that was so
}

// OpenRing returns a reader of m, which is [bpf.MapRing]; sweep is
// [bpf.ProgSweep] of the same programs. A ring has one reader at a time. Close it
// after use.
func OpenRing(m *ebpf.Map, sweep *ebpf.Program) (_ *Ring, err error) {
	r := &Ring{epoll: -1, batch: Batch{Runs: make([]Run, 0, batchSize)}, sweep: sweep}
	defer func() {
		if err != nil {
			err = fmt.Errorf("opening the ring %s: %w", m, errors.Join(err, r.Close()))
		}
	}()
	page, size := os.Getpagesize(), int(m.MaxEntries())
	if r.consumer, err = unix.Mmap(m.FD(), 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, err
	}
	if r.producer, err = unix.Mmap(m.FD(), int64(page), page+2*size, unix.PROT_READ, unix.MAP_SHARED); err != nil {
		return nil, err
	}
	r.read = (*uintptr)(unsafe.Pointer(&r.consumer[0]))
	r.written = (*uintptr)(unsafe.Pointer(&r.producer[0]))
	r.data, r.mask = r.producer[page:], uintptr(size-1)

	if r.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	// Edge-triggered: data that is there wakes nobody, a program that asks does.
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET}
	return r, unix.EpollCtl(r.epoll, unix.EPOLL_CTL_ADD, m.FD(), &event)
}

// Read calls fn with the records of the ring, those of a kind in their order, until ctx is done; then
// it reads what is left and returns nil. Where until is not 0, all sightings
// before that time, on the clock of [Now], have been given; that is said every 10
// ms or so, of an idle ring every 40, with or without records. The batch is fn's until it returns.
//
// An error of fn ends Read and is returned as it is.
func (r *Ring) Read(ctx context.Context, fn func(batch *Batch, until uint64) error) error {
	pause := tick
	for ctx.Err() == nil {
		if Now()-r.swept >= uint64(pause) {
			if err := r.sweepIdle(idle); err != nil {
				return err
			}
		}
		empty, err := r.next(fn)
		if err != nil {
			return err
		}
		if r.batch.Len() > 0 {
			pause = tick
		}
		if !empty {
			continue
		}
		if err := r.wait(pause); err != nil {
			return err
		}
		pause = min(2*pause, longestTick)
	}
	return r.Drain(fn)
}

// Drain calls fn with what there is now, as Read does, and does not wait.
// Programs that are still attached may fill the ring as fast as it is read, so
// what comes while it drains may stay.
func (r *Ring) Drain(fn func(batch *Batch, until uint64) error) error {
	if err := r.sweepIdle(0); err != nil {
		return err
	}
	end := r.mark
	for int(end-*r.read) > 0 {
		if _, err := r.next(fn); err != nil {
			return err
		}
	}
	r.batch.reset()
	return r.tell(fn)
}

// sweepIdle has the runs handed over that had no further hop for that long.
func (r *Ring) sweepIdle(age time.Duration) error {
	r.swept = Now()
	before := r.swept - uint64(age)
	if _, err := r.sweep.Run(&ebpf.RunOptions{Context: before}); err != nil {
		return fmt.Errorf("collecting what is on its way: %w", err)
	}
	r.until, r.mark = before-uint64(span), atomic.LoadUintptr(r.written)
	return nil
}

// next calls fn with a batch, and says whether the ring was then empty.
func (r *Ring) next(fn func(*Batch, uint64) error) (empty bool, err error) {
	if empty, err = r.fill(); err != nil {
		return false, err
	}
	return empty, r.tell(fn)
}

// tell calls fn if there is anything to say.
func (r *Ring) tell(fn func(*Batch, uint64) error) error {
	var until uint64
	if r.until != 0 && int(*r.read-r.mark) >= 0 {
		until, r.until = r.until, 0
	}
	if r.batch.Len() == 0 && until == 0 {
		return nil
	}
	return fn(&r.batch, until)
}

// Bits of a record's header: its length, and above that what state it is in.
const (
	recordHeader  = 8
	recordBusy    = 1 << 31
	recordDiscard = 1 << 30
)

// fill makes a batch of what is in the ring, and says whether that was all.
func (r *Ring) fill() (empty bool, err error) {
	r.batch.reset()
	at, end := *r.read, atomic.LoadUintptr(r.written)
	for n := 0; at != end && n < batchSize; n++ {
		record := r.data[at&r.mask:]
		header := atomic.LoadUint32((*uint32)(unsafe.Pointer(&record[0])))
		if header&recordBusy != 0 {
			end = at // those behind it wait for it
			break
		}
		size := uintptr(header &^ (recordBusy | recordDiscard))
		if header&recordDiscard == 0 {
			if err := r.batch.add(record[recordHeader : recordHeader+size]); err != nil {
				return false, err
			}
		}
		at += (recordHeader + size + 7) &^ 7
	}
	atomic.StoreUintptr(r.read, at)
	return at == end, nil
}

// wait returns when a program asks for it, and after the pause at the latest.
func (r *Ring) wait(pause time.Duration) error {
	_, err := unix.EpollWait(r.epoll, r.events[:], int(pause.Milliseconds()))
	if err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("waiting for the ring: %w", err)
	}
	return nil
}

// Close frees the ring's memory. It must not be called while Read runs.
func (r *Ring) Close() error {
	var errs []error
	for _, mapped := range [][]byte{r.consumer, r.producer} {
		if mapped != nil {
			errs = append(errs, unix.Munmap(mapped))
		}
	}
	if r.epoll >= 0 {
		errs = append(errs, unix.Close(r.epoll))
	}
	r.consumer, r.producer, r.epoll = nil, nil, -1
	return errors.Join(errs...)
}
