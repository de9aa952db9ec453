package ping

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsbpf/nsbpf/internal/netns"
)

// Prober sends probes from inside one namespace to one address.
//
// Echoes have an id of their own. Each UDP and TCP probe has a source port of its
// own, which it keeps until its timeout, so an answer is one probe's whatever it
// carries.
type Prober struct {
	options Options
	ns      *os.File
	src     netip.Addr
	mtu     int
	run     uint32 // in the payload, and the first sequence number of TCP
	id      uint16 // of echoes
	icmp    *net.IPConn
	tcp     *net.IPConn // nil but for TCP
	heard   chan heard
	lost    chan Key
}

// heard is an answer, and which probe it says it is for.
type heard struct {
	key Key
	Answer
}

// Open returns a Prober that sends from inside ns, which must stay open as long as
// it. The defaults of o are filled in.
//
// The error wraps the kernel's, such as [unix.ENETUNREACH], if there is no way to
// the destination.
func Open(ns *os.File, o Options) (*Prober, error) {
	o = o.WithDefaults()
	if err := o.Check(); err != nil {
		return nil, err
	}
	p := &Prober{
		options: o, ns: ns, heard: make(chan heard, 64), lost: make(chan Key, 64),
		run: rand.Uint32(), id: uint16(rand.Uint32()),
	}
	err := netns.Do(ns, func() (err error) {
		if p.src, p.mtu, err = o.route(); err != nil {
			return err
		}
		if p.icmp, err = o.listenICMP(); err != nil {
			return err
		}
		if o.Proto == TCP {
			p.tcp, err = o.dialTCP()
		}
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("probe %s: %w", o.Dst, err), p.Close())
	}
	return p, nil
}

// Source returns the address that probes come from.
func (p *Prober) Source() netip.Addr { return p.src }

// MTU returns what the kernel takes for the MTU of the way.
func (p *Prober) MTU() int { return p.mtu }

// Close closes the sockets. It may be called again.
func (p *Prober) Close() error {
	var errs []error
	if p.icmp != nil {
		errs = append(errs, p.icmp.Close())
	}
	if p.tcp != nil {
		errs = append(errs, p.tcp.Close())
	}
	p.icmp, p.tcp = nil, nil
	return errors.Join(errs...)
}

// Run sends the probes, and calls concluded with each when it was answered, when
// it was waited for long enough, or when it could not be sent. It returns when the
// last is concluded or ctx ends; a probe that is on its way then does not count. A
// Prober runs once.
func (p *Prober) Run(ctx context.Context, concluded func(Probe)) (Results, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	f := &flights{prober: p, concluded: concluded, byKey: make(map[Key]*flight)}
	f.readers.Go(func() error { return p.hearICMP(ctx) })
	if p.tcp != nil {
		f.readers.Go(func() error { return p.hearTCP(ctx) })
	}
	err := f.fly(ctx)
	stop()
	for _, c := range []*net.IPConn{p.icmp, p.tcp} {
		if c != nil {
			err = errors.Join(err, c.SetReadDeadline(time.Now()))
		}
	}
	return f.results, errors.Join(err, f.land(), f.readers.Wait())
}

// GiveUp says that the packet of k was lost. If that is a probe of p's, it is
// concluded without its timeout, unless its answer has been heard. GiveUp may be
// called at any time by any goroutine, and does not wait.
func (p *Prober) GiveUp(k Key) {
	select {
	case p.lost <- k:
	default: // then its timeout is waited for
	}
}

// hear hands on what read returns until ctx ends.
func (p *Prober) hear(ctx context.Context, what string, read func(buf []byte) (heard, bool, error)) error {
	buf := make([]byte, 1<<16)
	for {
		h, ok, err := read(buf)
		h.Received = time.Now()
		switch {
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return nil
		case isRefusal(err): // its ICMP error is heard for itself
			continue
		case err != nil:
			return fmt.Errorf("hear answers by %s: %w", what, err)
		case !ok:
			continue
		}
		select {
		case p.heard <- h:
		case <-ctx.Done():
			return nil
		}
	}
}

// isRefusal says whether err is what a socket says after an ICMP error.
func isRefusal(err error) bool {
	switch cause(err) {
	case unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EACCES, unix.EPROTO, unix.EMSGSIZE, unix.ENOPROTOOPT, unix.EOPNOTSUPP, unix.EHOSTDOWN:
		return true
	}
	return false
}

func (p *Prober) hearICMP(ctx context.Context) error {
	return p.hear(ctx, "icmp", func(buf []byte) (heard, bool, error) {
		n, from, err := p.icmp.ReadFromIP(buf)
		if err != nil {
			return heard{}, false, err
		}
		k, a, carried, ok := parseICMP(p.src, addr(from), buf[:n])
		if a.Kind == EchoReply {
			id, its := parseIdentity(carried)
			ok = ok && its && id.run == p.run
			k.Src, k.Dst = p.src, p.options.Dst
		}
		return heard{k, a}, ok, nil
	})
}

func (p *Prober) hearTCP(ctx context.Context) error {
	return p.hear(ctx, "tcp", func(buf []byte) (heard, bool, error) {
		n, from, err := p.tcp.ReadFromIP(buf)
		if err != nil {
			return heard{}, false, err
		}
		k, a, ok := parseTCP(p.src, addr(from), buf[:n])
		return heard{k, a}, ok, nil
	})
}

func (p *Prober) hearUDP(ctx context.Context, c *net.UDPConn, k Key) error {
	return p.hear(ctx, "udp", func(buf []byte) (heard, bool, error) {
		_, err := c.Read(buf)
		return heard{k, Answer{Kind: Datagram, From: k.Dst}}, true, err
	})
}

// addr returns a's address, of which package net makes 16 bytes.
func addr(a *net.IPAddr) netip.Addr {
	ip, _ := netip.AddrFromSlice(a.IP)
	return ip.Unmap()
}
