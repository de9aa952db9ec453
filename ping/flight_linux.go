package ping

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/nsbpf/nsbpf/internal/netns"
)

// flight is a probe that was sent, until its timeout.
type flight struct {
	Probe
	concluded bool
	expires   time.Time
	port      io.Closer // what has its port; nil of an echo
}

// flights sends a Prober's probes one after the other and gives each its answer.
// All of it is one goroutine's but the readers.
type flights struct {
	prober    *Prober
	concluded func(Probe)
	results   Results
	sent      int
	open      int // not concluded
	byKey     map[Key]*flight
	queue     []*flight // by when they expire; all that have a socket are there
	readers   errgroup.Group
}

// fly returns when all probes are concluded.
func (f *flights) fly(ctx context.Context) error {
	o := f.prober.options
	tick := time.NewTimer(0)
	defer tick.Stop()
	next := time.Now()
	for f.sent < o.Count || f.open > 0 {
		tick.Reset(time.Until(f.due(next)))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case h := <-f.prober.heard:
			f.answered(h)
			continue
		case k := <-f.prober.lost:
			f.giveUp(k)
			continue
		case <-tick.C:
		}
		now := time.Now()
		if err := f.expire(now); err != nil {
			return err
		}
		if f.sent < o.Count && !now.Before(next) {
			if err := f.send(ctx); err != nil {
				return err
			}
			next = next.Add(o.Interval)
			if next.Before(now) {
				next = now // no burst to make up for what was late
			}
		}
	}
	return nil
}

// due returns when there is something to do: next is when to send.
func (f *flights) due(next time.Time) time.Time {
	switch {
	case len(f.queue) == 0:
		return next
	case f.sent == f.prober.options.Count || f.queue[0].expires.Before(next):
		return f.queue[0].expires
	}
	return next
}

// send sends the next probe.
func (f *flights) send(ctx context.Context) error {
	f.sent++
	p := f.prober
	fl := &flight{Probe: Probe{Number: f.sent, Key: Key{Proto: p.options.Proto, Src: p.src, Dst: p.options.Dst}}}
	write, err := f.prepare(ctx, fl)
	if err != nil {
		return err
	}
	f.byKey[fl.Key] = fl
	f.queue = append(f.queue, fl)
	f.open++
	fl.Sent = time.Now()
	fl.expires = fl.Sent.Add(p.options.Timeout)
	if fl.Err = cause(write(fl.Sent)); fl.Err != nil {
		f.conclude(fl)
	}
	return nil
}

// prepare gives fl a port of its own if it needs one, and completes its key. write
// sends it.
func (f *flights) prepare(ctx context.Context, fl *flight) (write func(now time.Time) error, err error) {
	p, k := f.prober, &fl.Key
	payload := func(now time.Time) []byte {
		return identity{p.run, uint32(fl.Number), uint64(now.UnixNano())}.payload(p.options.Size)
	}
	k.Dport = p.options.Port
	switch k.Proto {
	case UDP:
		var c *net.UDPConn
		err = netns.Do(p.ns, func() (err error) { c, err = p.options.dialUDP(); return err })
		if err != nil {
			// The way was there when the Prober was opened.
			return func(time.Time) error { return err }, nil
		}
		fl.port, k.Sport = c, c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		key := *k
		f.readers.Go(func() error { return p.hearUDP(ctx, c, key) })
		return func(now time.Time) error { _, err := c.Write(payload(now)); return err }, nil
	case TCP:
		var r reservation
		err = netns.Do(p.ns, func() (err error) { r, k.Sport, err = reserveTCP(p.src); return err })
		if err != nil {
			return nil, err
		}
		fl.port, k.Seq = r, p.run+uint32(fl.Number)
		return func(time.Time) error { _, err := p.tcp.Write(syn(*k)); return err }, nil
	}
	k.ID, k.Seq = p.id, uint32(uint16(fl.Number))
	return func(now time.Time) error {
		_, err := p.icmp.WriteToIP(echoRequest(*k, payload(now)), &net.IPAddr{IP: k.Dst.AsSlice()})
		return err
	}, nil
}

// answered gives a probe its answer.
func (f *flights) answered(h heard) {
	fl := f.byKey[h.key]
	switch {
	case fl == nil: // another program's
	case fl.concluded && fl.Answer == nil:
		f.results.Late++
	case fl.concluded:
		f.results.Duplicates++
	default:
		a := h.Answer
		a.RTT = a.Received.Sub(fl.Sent)
		fl.Answer = &a
		f.conclude(fl)
	}
}

// giveUp concludes the probe of k, if there is one without an answer.
func (f *flights) giveUp(k Key) {
	for len(f.prober.heard) > 0 { // what was heard counts
		f.answered(<-f.prober.heard)
	}
	if fl := f.byKey[k]; fl != nil && !fl.concluded {
		f.conclude(fl)
	}
}

func (f *flights) conclude(fl *flight) {
	fl.concluded = true
	f.open--
	f.results.Add(&fl.Probe)
	f.concluded(fl.Probe)
}

// expire gives up what was waited for long enough.
func (f *flights) expire(now time.Time) error {
	var err error
	for len(f.queue) > 0 && !f.queue[0].expires.After(now) {
		fl := f.queue[0]
		f.queue = f.queue[1:]
		if !fl.concluded {
			f.conclude(fl)
		}
		err = errors.Join(err, fl.close())
	}
	return err
}

// land closes the sockets that are open still.
func (f *flights) land() error {
	var err error
	for _, fl := range f.queue {
		err = errors.Join(err, fl.close())
	}
	f.queue = nil
	return err
}

func (fl *flight) close() error {
	if fl.port == nil {
		return nil
	}
	return fl.port.Close()
}
