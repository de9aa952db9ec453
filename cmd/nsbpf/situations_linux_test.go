package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/netns"
	"github.com/nsbpf/nsbpf/internal/testenv"
)

// situation is what there is to be recorded: a lab, and what is sent there.
type situation struct {
	proving
	file   string
	probes int // of each flow
	send   func(*testing.T, *course, *oracle, *tape)
}

const gentle = pace(300 * time.Microsecond)

func situations() []situation {
	provings := provings()
	bridge, nat := provings[1], provings[2]
	bridge.flows, bridge.filters = between(bridge.flows[0].route), nil
	native := provings[1]
	flooded := proving{name: "switch", up: []string{"../../examples/switch.yaml"}, flows: floods()}
	large := nat
	large.filters, large.flows = nil, append(between(across()), abroad(abroadFrom("left"))...)
	bridge.up = []string{"bridge", "--isolated"}
	bridge.flows = bridge.flows[:1]
	return []situation{
		{file: "nat", proving: nat, probes: 20, send: sendPaced},
		{file: "xdp", proving: native, probes: 8, send: sendBesideTCP},
		{file: "flood", proving: flooded, probes: 15, send: sendFloods},
		{file: "fragments", proving: large, probes: 8, send: sendLarge},
		{file: "retransmissions", proving: bridge, probes: 5, send: sendAgain},
	}
}

func across() []string {
	return []string{"left:left-veth out", "host:left-br0-veth in", "host:right-br0-veth out", "right:right-veth in"}
}

func abroadFrom(node string) []string {
	return []string{
		node + ":" + node + "-veth out", "host:" + node + "-br0-veth in", "host:br0 in", "host:eth0 out", "wan:eth0 in",
	}
}

func sendPaced(t *testing.T, c *course, o *oracle, _ *tape) {
	c.send(t, trial{pace: gentle}, o)
}

// sendBesideTCP sends probes, and TCP in segments that native XDP needs cut.
func sendBesideTCP(t *testing.T, c *course, o *oracle, _ *tape) {
	var g errgroup.Group
	for _, to := range []netip.Addr{right4, right6} {
		g.Go(func() error {
			conn, wait, err := c.connect("left", "right", to)
			if err != nil {
				return err
			}
			_, err = conn.Write(make([]byte, 120_000))
			return errors.Join(err, conn.Close(), wait())
		})
	}
	c.send(t, trial{pace: gentle}, o)
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

// floods are what the nodes of a switch send to all others, to one that nobody
// knows, and to one that the switch does not know.
func floods() []flow {
	route := []string{"one:eth0 out", "switch:one-sw-veth in"}
	back := []string{"two:eth0 out", "switch:two-sw-veth in"}
	var all []flow
	for port, to := range map[uint16]string{
		7: "10.1.0.255", 8: "ff02::1", 9: "10.1.0.99", 10: "fd10::99",
	} {
		addr := netip.MustParseAddr(to)
		all = append(all, flow{port: port, to: addr, route: route}, flow{port: port, to: addr, route: back})
	}
	return append(all, flow{echo: true, port: 7, to: netip.MustParseAddr("10.1.0.3"), route: route},
		flow{echo: true, port: 7, to: netip.MustParseAddr("fd10::3"), route: route})
}

// sendFloods has the bridge forget at once where anybody is, so that it floods what
// is for one node, too.
func sendFloods(t *testing.T, c *course, o *oracle, _ *tape) {
	testenv.Run(t, "nsbpf", "exec", "switch/switch", "--", "ip", "link", "set", "sw", "type", "bridge", "ageing_time", "0")
	for _, node := range []string{"one", "two"} {
		for _, nobody := range []string{"10.1.0.99", "fd10::99"} {
			testenv.Run(t, "nsbpf", "exec", "switch/"+node, "--",
				"ip", "neigh", "add", nobody, "lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud", "permanent")
		}
	}
	c.send(t, trial{pace: gentle}, o)
}

// sendLarge sends probes that go in three fragments.
func sendLarge(t *testing.T, c *course, o *oracle, _ *tape) {
	var g errgroup.Group
	for i := range c.flows {
		f := &c.flows[i]
		g.Go(func() error {
			conn, err := probeSocket(c.nodes[f.from()], f)
			if err != nil {
				return err
			}
			defer conn.Close()
			clock := time.NewTicker(time.Duration(gentle))
			defer clock.Stop()
			for k, id := range o.ids[i] {
				<-clock.C
				b := append(payload(id), make([]byte, 3000)...)
				to := net.Addr(net.UDPAddrFromAddrPort(netip.AddrPortFrom(f.to, probePort)))
				if f.echo {
					to = &net.IPAddr{IP: f.to.AsSlice()}
					if b, err = echoRequest(f, k, b); err != nil {
						return err
					}
				}
				if _, err := conn.WriteTo(b, to); err != nil {
					return fmt.Errorf("sending %s: %w", f, err)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

// sendAgain has TCP send its SYN and then its data several times, because a filter
// drops them.
func sendAgain(t *testing.T, c *course, o *oracle, r *tape) {
	const place = "host:left-br0-veth"
	seen := func(want func(*collector.Run) bool) func(*collector.Run) bool {
		return func(run *collector.Run) bool {
			at := o.hop(run.HopID()).String()
			return at == "left:left-veth out" && run.Packet.Proto == collector.ProtoTCP && want(run)
		}
	}
	testenv.Run(t, "nsbpf", "filter", "add", place, "drop", "tcp-syn")
	var g errgroup.Group
	conns := make([]net.Conn, 2)
	waits := make([]func() error, 2)
	for i, to := range []netip.Addr{right4, right6} {
		g.Go(func() (err error) {
			conns[i], waits[i], err = c.connect("left", "right", to)
			return err
		})
	}
	r.await(t, 4, seen(func(run *collector.Run) bool { return run.Packet.TCPFlags&2 != 0 }))
	testenv.Run(t, "nsbpf", "filter", "rm", "1")
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	testenv.Run(t, "nsbpf", "filter", "add", place, "drop", "tcp and greater 500")
	for i := range conns {
		for range 3 { // a write each, as they go out at once
			if _, err := conns[i].Write(make([]byte, 2000)); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.await(t, 12, seen(func(run *collector.Run) bool { return run.Packet.Len > 500 }))
	testenv.Run(t, "nsbpf", "filter", "rm", "2")
	for i := range conns {
		if err := errors.Join(conns[i].Close(), waits[i]()); err != nil {
			t.Fatal(err)
		}
	}
	c.send(t, trial{pace: gentle}, o)
}

// connect opens a connection between two nodes. What comes by it is taken; wait
// returns when it was closed.
func (c *course) connect(from, to string, addr netip.Addr) (conn net.Conn, wait func() error, err error) {
	var ln net.Listener
	err = netns.Do(c.nodes[to], func() (err error) {
		ln, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	var g errgroup.Group
	g.Go(func() error {
		defer ln.Close()
		conn, err := ln.Accept()
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, conn)
		return errors.Join(err, conn.Close())
	})
	err = netns.Do(c.nodes[from], func() (err error) {
		conn, err = net.DialTimeout("tcp", ln.Addr().String(), 10*time.Second)
		return err
	})
	if err != nil {
		return nil, nil, errors.Join(err, ln.Close(), g.Wait())
	}
	return conn, g.Wait, nil
}
