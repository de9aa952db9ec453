package load

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"sync"
	"time"
	"unsafe"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"
)

const (
	// sequenceLen is what a request over UDP has at least: its number.
	sequenceLen = 4
	// unanswered is how long a client waits for a response over UDP.
	unanswered = 200 * time.Millisecond
	// A latency is kept with three figures, up to a minute.
	slowest   = int64(time.Minute)
	precision = 3
)

// rr runs clients that each send a request when the response to the last has come.
func (r *running) rr(ctx context.Context, lost *losses) error {
	if r.OverUDP {
		return r.rrUDP(ctx, lost)
	}
	from, to, err := r.connect(ctx)
	defer closeAll(from)
	defer closeAll(to)
	if err != nil {
		return err
	}
	if err := lost.reset(); err != nil {
		return err
	}
	t := newTransactions()
	err = r.measure(ctx, func() {
		for i, s := range to {
			r.receivers.start(i, func() error { return r.answerStream(s) })
		}
		for i, s := range from {
			r.senders.start(i, func() error {
				buf := make([]byte, r.Size)
				return r.clients(t, func() (bool, error) {
					if ok, err := s.writeFull(buf, r.over.Load); !ok {
						return false, err
					}
					return s.readFull(buf, r.over.Load)
				})
			})
		}
	})
	t.report(r)
	return err
}

// answerStream sends back each request until the load is over.
func (r *running) answerStream(s socket) error {
	buf := make([]byte, r.Size)
	for {
		ok, err := s.readFull(buf, r.sent.Load)
		if ok {
			ok, err = s.writeFull(buf, r.sent.Load)
		}
		if r.over.Load() {
			return nil // the client may be gone already
		}
		if !ok || err != nil {
			return err
		}
	}
}

// transactions are what all clients did.
type transactions struct {
	mu       sync.Mutex
	latency  *hdrhistogram.Histogram
	sent, ok uint64
	refused  uint64
	end      last
}

func newTransactions() *transactions { return &transactions{latency: newHistogram()} }

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, slowest, precision) }

// report enters t into r's outcome.
func (t *transactions) report(r *running) {
	r.out.Latency = t.latency
	size := uint64(r.Size)
	r.out.Sent, r.out.Received = Tally{t.sent, t.sent * size}, Tally{t.ok, t.ok * size}
	r.out.Refused = t.refused
	r.out.Elapsed = t.end.or(time.Since(r.start))
}

// clients does transactions, at its part of the rate if there is one, until the
// load is over. The last, in which it was interrupted, does not count. do returns
// false if there was no answer.
func (r *running) clients(t *transactions, do func() (bool, error)) error {
	h, pace := newHistogram(), newPace(r.Rate/float64(r.Flows), r.over.Load)
	var sent, ok, refused uint64
	var done time.Time
	defer func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.latency.Merge(h)
		t.sent, t.ok, t.refused = t.sent+sent, t.ok+ok, t.refused+refused
		if ok > 0 {
			t.end.note(done.Sub(r.start))
		}
	}()
	for !r.over.Load() {
		begin := time.Now()
		if r.Rate > 0 {
			if pace.wait(1) == 0 {
				return nil
			}
			begin = pace.start.Add(pace.due(pace.n))
			pace.sent(1)
		}
		answered, err := do()
		done = time.Now()
		switch {
		case errors.Is(err, unix.EADDRNOTAVAIL):
			refused++
			time.Sleep(time.Millisecond) // until a port is free again
		case r.over.Load() && !answered:
			return nil
		case err != nil:
			return err
		case answered:
			sent, ok = sent+1, ok+1
			_ = h.RecordValue(min(int64(done.Sub(begin)), slowest))
		default:
			sent++
		}
	}
	return nil
}

// rrUDP is rr over UDP. A request without a response is lost, and not sent again.
func (r *running) rrUDP(ctx context.Context, lost *losses) error {
	to, at, err := r.openReceivers()
	defer closeAll(to)
	if err != nil {
		return err
	}
	from, err := r.openSenders(at)
	defer closeAll(from)
	if err != nil {
		return err
	}
	if err := lost.reset(); err != nil {
		return err
	}
	t := newTransactions()
	err = r.measure(ctx, func() {
		for i, s := range to {
			r.receivers.start(i, func() error { return r.answerDatagrams(s) })
		}
		for i, s := range from {
			r.senders.start(i, func() error {
				buf, seq := make([]byte, r.Size), uint32(0)
				return r.clients(t, func() (bool, error) {
					seq++
					return s.ask(buf, seq, r.over.Load)
				})
			})
		}
	})
	t.report(r)
	return err
}

// ask sends a request with a number and returns whether the response with the same
// number came.
func (s socket) ask(buf []byte, seq uint32, over func() bool) (bool, error) {
	binary.BigEndian.PutUint32(buf, seq)
	start := time.Now()
	if _, err := unix.SendmsgN(int(s), buf, nil, nil, unix.MSG_NOSIGNAL); err != nil && !passing(err) {
		return false, os.NewSyscallError("send", err)
	}
	for !over() && time.Since(start) < unanswered {
		n, err := unix.Read(int(s), buf)
		if err != nil && !passing(err) {
			return false, os.NewSyscallError("receive", err)
		}
		if err == nil && n >= sequenceLen && binary.BigEndian.Uint32(buf) == seq {
			return true, nil
		}
	}
	return false, nil
}

// passing reports whether an error of a UDP socket is one of a packet, not of the
// socket.
func passing(err error) bool {
	return later(err) || err == unix.ECONNREFUSED || err == unix.EPERM || err == unix.ENOBUFS
}

// answerDatagrams sends back what comes until the load is over.
func (r *running) answerDatagrams(s socket) error {
	buf := make([]byte, r.Size)
	var peer unix.RawSockaddrAny
	for !r.sent.Load() {
		size := uint32(unsafe.Sizeof(peer))
		n, _, errno := unix.Syscall6(unix.SYS_RECVFROM, uintptr(s), uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)),
			0, uintptr(unsafe.Pointer(&peer)), uintptr(unsafe.Pointer(&size)))
		if errno == 0 {
			_, _, errno = unix.Syscall6(unix.SYS_SENDTO, uintptr(s), uintptr(unsafe.Pointer(&buf[0])), n,
				unix.MSG_NOSIGNAL, uintptr(unsafe.Pointer(&peer)), uintptr(size))
		}
		if errno != 0 && !passing(errno) {
			return os.NewSyscallError("answer", errno)
		}
	}
	return nil
}
