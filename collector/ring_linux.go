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
	// batchSize bounds the sightings of one call; 512 of them stay in the cache.
	batchSize = 512
	// tick is how long a sighting may wait in the ring: below a high-water mark
	// the programs wake nobody, because a wake-up costs more than the rest of
	// tracing a packet.
	tick = 10 * time.Millisecond
)

// Now returns the time on the clock of [bpf.Sighting.TimeNS], CLOCK_MONOTONIC in ns.
func Now() uint64 {
	var ts unix.Timespec
	// It fails only for an unknown clock.
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return uint64(ts.Nano())
}

// Ring reads sightings from the ring the trace programs write to.
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
	batch    []Sighting
}

// OpenRing returns a reader of m, which is [bpf.MapRing]. A ring has one reader
// at a time. Close it after use.
func OpenRing(m *ebpf.Map) (_ *Ring, err error) {
	r := &Ring{epoll: -1, batch: make([]Sighting, 0, batchSize)}
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

// Read calls fn with the sightings of the ring, in their order, until ctx is
// done; then it reads what is left and returns nil. fn is also called with an
// empty batch, every 10 ms or so, when the ring was found empty: nothing that
// happened before is still to come. The batch is fn's until it returns.
//
// An error of fn ends Read and is returned as it is.
func (r *Ring) Read(ctx context.Context, fn func([]Sighting) error) error {
	for ctx.Err() == nil {
		empty, err := r.next(fn)
		if err != nil {
			return err
		}
		if !empty {
			continue
		}
		if err := r.wait(); err != nil {
			return err
		}
	}
	return r.Drain(fn)
}

// Drain calls fn with what is in the ring now, as Read does, and does not wait.
// Programs that are still attached may fill the ring as fast as it is read, so
// what comes while it drains may stay.
func (r *Ring) Drain(fn func([]Sighting) error) error {
	end := atomic.LoadUintptr(r.written)
	for int(end-*r.read) > 0 {
		if empty, err := r.next(fn); err != nil || empty {
			return err
		}
	}
	return fn(nil)
}

// next calls fn with a batch, and says whether the ring was then empty.
func (r *Ring) next(fn func([]Sighting) error) (empty bool, err error) {
	if empty, err = r.fill(); err != nil {
		return false, err
	}
	if len(r.batch) > 0 {
		if err := fn(r.batch); err != nil {
			return false, err
		}
	}
	if empty {
		return true, fn(nil)
	}
	return false, nil
}

// Bits of a record's header: its length, and above that what state it is in.
const (
	recordHeader  = 8
	recordBusy    = 1 << 31
	recordDiscard = 1 << 30
)

// fill makes a batch of what is in the ring, and says whether that was all.
func (r *Ring) fill() (empty bool, err error) {
	r.batch = r.batch[:0]
	at, end := *r.read, atomic.LoadUintptr(r.written)
	for at != end && len(r.batch) < batchSize {
		record := r.data[at&r.mask:]
		header := atomic.LoadUint32((*uint32)(unsafe.Pointer(&record[0])))
		if header&recordBusy != 0 {
			end = at // those behind it wait for it
			break
		}
		size := uintptr(header &^ (recordBusy | recordDiscard))
		if header&recordDiscard == 0 {
			n := len(r.batch)
			r.batch = r.batch[:n+1]
			if err := Decode(record[recordHeader:recordHeader+size], &r.batch[n]); err != nil {
				return false, err
			}
		}
		at += (recordHeader + size + 7) &^ 7
	}
	atomic.StoreUintptr(r.read, at)
	return at == end, nil
}

// wait returns when a program asks for it, and after a tick at the latest.
func (r *Ring) wait() error {
	_, err := unix.EpollWait(r.epoll, make([]unix.EpollEvent, 1), int(tick.Milliseconds()))
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
