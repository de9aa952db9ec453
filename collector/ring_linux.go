package collector

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
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
type Ring struct {
	reader *ringbuf.Reader
	record ringbuf.Record
	batch  []Sighting
}

// OpenRing returns a reader of m, which is [bpf.MapRing]. A ring has one reader
// at a time. Close it after use.
func OpenRing(m *ebpf.Map) (*Ring, error) {
	r, err := ringbuf.NewReader(m)
	if err != nil {
		return nil, fmt.Errorf("opening the ring %s: %w", m, err)
	}
	return &Ring{
		reader: r,
		record: ringbuf.Record{RawSample: make([]byte, 0, SightingSize)},
		batch:  make([]Sighting, 0, batchSize),
	}, nil
}

// Read calls fn with the sightings of the ring, in their order, until ctx is
// done; then it drains the ring and returns nil. fn is also called with an empty
// batch, every 10 ms or so, when the ring was found empty: nothing that happened
// before is still to come. The batch is fn's until it returns.
//
// An error of fn ends Read and is returned as it is.
func (r *Ring) Read(ctx context.Context, fn func([]Sighting) error) error {
	for ctx.Err() == nil {
		if _, err := r.next(time.Now().Add(tick), fn); err != nil {
			return err
		}
	}
	return r.Drain(fn)
}

// Drain calls fn with what is in the ring now, as Read does, and does not wait.
// Programs that are still attached may fill the ring as fast as it is read, so
// what comes while it drains may stay.
func (r *Ring) Drain(fn func([]Sighting) error) error {
	batches := 1 + r.reader.AvailableBytes()/(batchSize*SightingSize)
	for empty := false; !empty && batches > 0; batches-- {
		var err error
		if empty, err = r.next(time.Now(), fn); err != nil {
			return err
		}
	}
	return nil
}

// next calls fn with a batch as soon as that is full, or at deadline with what
// there is, and says whether the ring was then empty.
func (r *Ring) next(deadline time.Time, fn func([]Sighting) error) (empty bool, err error) {
	r.reader.SetDeadline(deadline)
	err = r.fill()
	empty = errors.Is(err, os.ErrDeadlineExceeded)
	if err != nil && !empty {
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

// fill makes a batch of what is in the ring.
func (r *Ring) fill() error {
	r.batch = r.batch[:0]
	for len(r.batch) < batchSize {
		if err := r.reader.ReadInto(&r.record); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return err
			}
			return fmt.Errorf("reading the ring: %w", err)
		}
		n := len(r.batch)
		r.batch = r.batch[:n+1]
		if err := Decode(r.record.RawSample, &r.batch[n]); err != nil {
			return err
		}
	}
	return nil
}

// Close frees the ring's memory. It must not be called while Read runs.
func (r *Ring) Close() error { return r.reader.Close() }
