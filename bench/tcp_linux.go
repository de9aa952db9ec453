package bench

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/nsbpf/nsbpf/internal/netns"
)

// chunk is what one write hands to TCP: enough for its largest segment.
const chunk = 128 << 10

// TCP is one stream from a socket in from to addr in to, as fast as it goes.
// Rates are Gbit/s of payload; CPU is per kilobyte.
func TCP(from, to *os.File, addr netip.Addr) Load {
	return Load{Name: "tcp", Unit: "Gbit/s", Run: func(ctx context.Context, d time.Duration) (Sample, error) {
		return runTCP(ctx, d, from, to, addr)
	}}
}

func runTCP(ctx context.Context, d time.Duration, from, to *os.File, addr netip.Addr) (Sample, error) {
	var ln net.Listener
	err := netns.Do(to, func() (err error) {
		ln, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
		return err
	})
	if err != nil {
		return Sample{}, fmt.Errorf("listen on %s: %w", addr, err)
	}
	defer ln.Close()

	got := make(chan int64, 1)
	go func() { got <- sink(ln) }()

	var conn net.Conn
	err = netns.Do(from, func() (err error) {
		conn, err = net.DialTimeout("tcp", ln.Addr().String(), 3*time.Second)
		return err
	})
	if err != nil {
		ln.Close()
		<-got
		return Sample{}, err
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Now()) })
	defer stop()
	busy, start := busyTime(), time.Now()
	err = fill(conn, start.Add(d))
	conn.Close()
	bytes := <-got
	took, cpu := time.Since(start), busyTime()-busy
	if ctx.Err() != nil {
		return Sample{}, ctx.Err() // the reason for err, too
	}
	if err != nil {
		return Sample{}, err
	}
	return Sample{
		Rate: float64(bytes) * 8 / float64(took.Nanoseconds()),
		CPU:  float64(cpu.Nanoseconds()) / (float64(bytes) / 1000),
	}, nil
}

// sink takes one connection and returns how many bytes came by it.
func sink(ln net.Listener) int64 {
	conn, err := ln.Accept()
	if err != nil {
		return 0
	}
	defer conn.Close()
	buf := make([]byte, chunk)
	var n int64
	for {
		m, err := conn.Read(buf)
		n += int64(m)
		if err != nil {
			return n
		}
	}
}

// fill writes until the deadline.
func fill(w io.Writer, until time.Time) error {
	buf := make([]byte, chunk)
	for time.Now().Before(until) {
		if _, err := w.Write(buf); err != nil {
			return err
		}
	}
	return nil
}
