package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/ipv4"

	"github.com/nsbpf/nsbpf/internal/netns"
)

const (
	burst = 64 // datagrams a system call
	// udpPayload makes an Ethernet frame of 64 bytes with its checksum over IPv4.
	udpPayload = 64 - 14 - 20 - 8 - 4
)

// UDP sends datagrams in frames of 64 bytes from a socket in from to addr in to,
// as fast as it goes. Rates are million packets a second that came to to's
// device; CPU is per such packet. What the socket there drops because nobody
// reads as fast is not the path's doing, and depends on which CPU has time left.
func UDP(from, to *os.File, addr netip.Addr) Load {
	return Load{Name: "udp64", Unit: "Mpps", Run: func(ctx context.Context, d time.Duration) (Sample, error) {
		return runUDP(ctx, d, from, to, addr)
	}}
}

func runUDP(ctx context.Context, d time.Duration, from, to *os.File, addr netip.Addr) (Sample, error) {
	rx, err := udpSocket(to, netip.AddrPortFrom(addr, 0), netip.AddrPort{})
	if err != nil {
		return Sample{}, fmt.Errorf("listen on %s: %w", addr, err)
	}
	defer rx.Close()
	tx, err := udpSocket(from, netip.AddrPort{}, rx.LocalAddr().(*net.UDPAddr).AddrPort())
	if err != nil {
		return Sample{}, fmt.Errorf("reach %s: %w", addr, err)
	}
	defer tx.Close()

	before, err := arrived(to)
	if err != nil {
		return Sample{}, err
	}
	busy, start := busyTime(), time.Now()
	got := make(chan int64, 1)
	go func() { got <- receive(rx) }()
	sendErr := send(ctx, tx, start.Add(d))
	// What is on its way arrives within this; the wait is not in the figures.
	took, cpu := time.Since(start), busyTime()-busy
	rx.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	<-got
	after, err := arrived(to)
	if err := errors.Join(err, sendErr, ctx.Err()); err != nil {
		return Sample{}, err
	}
	n := after - before
	if n == 0 {
		return Sample{}, fmt.Errorf("nothing arrived at %s", addr)
	}
	return Sample{
		Rate: float64(n) / took.Seconds() / 1e6,
		CPU:  float64(cpu.Nanoseconds()) / float64(n),
	}, nil
}

// udpSocket opens a socket in ns that listens on local, or is connected to remote.
func udpSocket(ns *os.File, local, remote netip.AddrPort) (conn *net.UDPConn, err error) {
	err = netns.Do(ns, func() error {
		if remote.IsValid() {
			conn, err = net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(remote))
		} else {
			conn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(local))
		}
		return err
	})
	return conn, err
}

func messages(size int) []ipv4.Message {
	ms := make([]ipv4.Message, burst)
	for i := range ms {
		ms[i].Buffers = [][]byte{make([]byte, size)}
	}
	return ms
}

// send writes until the deadline. A full queue is no error: it is the load.
func send(ctx context.Context, conn *net.UDPConn, until time.Time) error {
	ms, c := messages(udpPayload), ipv4.NewPacketConn(conn)
	for time.Now().Before(until) && ctx.Err() == nil {
		if _, err := c.WriteBatch(ms, 0); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("send: %w", err)
		}
	}
	return nil
}

// receive counts datagrams until the socket's read deadline.
func receive(conn *net.UDPConn) int64 {
	ms, c := messages(2048), ipv4.NewPacketConn(conn)
	var n int64
	for {
		m, err := c.ReadBatch(ms, 0)
		n += int64(m)
		if err != nil {
			return n
		}
	}
}

// arrived returns how many packets the devices of ns but lo have received.
func arrived(ns *os.File) (n uint64, err error) {
	err = netns.Do(ns, func() error {
		b, err := os.ReadFile("/proc/thread-self/net/dev")
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(b)) {
			name, counters, ok := strings.Cut(line, ":")
			fields := strings.Fields(counters) // bytes, packets, …
			if !ok || strings.TrimSpace(name) == "lo" || len(fields) < 2 {
				continue
			}
			packets, err := strconv.ParseUint(fields[1], 10, 64)
			if err != nil {
				return fmt.Errorf("reading /proc/net/dev: %w", err)
			}
			n += packets
		}
		return nil
	})
	return n, err
}
