package main

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/nsbpf/nsbpf/internal/testenv"
)

// burden is what is sent from left to one address. send returns how many packets
// that is, there and back, and 0 if it does not know.
type burden struct {
	name string
	to   netip.Addr
	send func(*testing.T, *course, netip.Addr) int
}

// loads are sent to an address of IPv4 and to one of IPv6.
func loads(to4, to6 netip.Addr) []burden {
	return []burden{
		{"udp4", to4, sendCounters(0)}, {"udp6", to6, sendCounters(0)},
		{"udp6 that begin alike", to6, sendCounters(8)}, // as VXLAN and WireGuard do
		{"ping4", to4, flood}, {"ping6", to6, flood},
		{"tcp4", to4, sendTCP}, {"tcp6", to6, sendTCP},
	}
}

const counters = 4000

// sendCounters sends UDP packets that differ in a number at that place alone.
func sendCounters(at int) func(*testing.T, *course, netip.Addr) int {
	return func(t *testing.T, c *course, to netip.Addr) int {
		t.Helper()
		conn, err := probeSocket(c.nodes["left"], &flow{port: 7, to: to, route: across()})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		addr := net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, probePort))
		eachCounter(t, func(i uint64) error {
			b := make([]byte, 64)
			binary.LittleEndian.PutUint64(b[at:], i)
			_, err := conn.WriteTo(b, addr)
			return err
		})
		return counters
	}
}

// eachCounter calls send for all, slowly enough for all queues.
func eachCounter(t *testing.T, send func(uint64) error) {
	t.Helper()
	clock := time.NewTicker(time.Millisecond)
	defer clock.Stop()
	for i := range uint64(counters) {
		if i%32 == 0 {
			<-clock.C
		}
		if err := send(i); err != nil {
			t.Fatal(err)
		}
	}
}

var transmitted = regexp.MustCompile(`(\d+) packets transmitted, (\d+) received`)

// flood pings as fast as it goes.
func flood(t *testing.T, _ *course, to netip.Addr) int {
	t.Helper()
	out := testenv.Run(t, "nsbpf", "exec", "left", "--", "ping", "-nqfc2000", to.String())
	m := transmitted.FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("ping says %s", out)
	}
	sent, _ := strconv.Atoi(m[1])
	received, _ := strconv.Atoi(m[2])
	return sent + received
}

// sendTCP sends by a connection. How many packets that takes is not known: 0.
func sendTCP(t *testing.T, c *course, to netip.Addr) int {
	t.Helper()
	node := "right"
	if c.nodes["wan"] != nil {
		node = "wan"
	}
	conn, wait, err := c.connect("left", node, to)
	if err != nil {
		t.Fatal(err)
	}
	var sent error
	for range 500 { // small writes, so that packets are many
		_, err := conn.Write(make([]byte, 20_000))
		sent = errors.Join(sent, err)
	}
	if err := errors.Join(sent, conn.Close(), wait()); err != nil {
		t.Fatal(err)
	}
	return 0
}

// counterHash is the hash of a payload of sendCounters(0) as the programs make it.
func counterHash(i uint64) uint32 {
	const prime = 16777619
	h := uint32(2166136261)
	h = (h ^ uint32(i)) * prime
	h = (h ^ uint32(i>>32)) * prime
	for range 6 {
		h *= prime
	}
	return h
}
