package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nsbpf/nsbpf/forward"
	"github.com/nsbpf/nsbpf/internal/nearest"
	"github.com/nsbpf/nsbpf/ping"
	"github.com/nsbpf/nsbpf/report"
	"github.com/nsbpf/nsbpf/topology"
)

// exitBlocked is the exit code if a limit did not hold: here, if something stops
// the packet or its answer.
const exitBlocked = 3

func newPathCmd(e *env) *cobra.Command {
	var f struct {
		size int
		ttl  uint8
		df   bool
		six  bool
		json bool
	}
	c := &cobra.Command{
		Use:   "path [LAB/]FROM TO [PROTO [PORT]]",
		Short: "Say which way a packet should take, and what will stop it",
		Long: `Say from the live configuration alone - routes, neighbours, bridges, nft rules,
sysctls - which hops a packet from a node should pass, what is changed on the
way, and what will stop it or its answer. Nothing is sent.

TO is a node of the lab or an address. PROTO is icmp (the default), udp or tcp.
What the configuration does not tell is said to be unknown, in a line with a
question mark: so is what is outside the lab, of which an answer to what left it
is followed on its way in. The exit code is 3 if something stops the packet or its
answer.`,
		Example: `  nsbpf path left right
  nsbpf path left 8.8.8.8 tcp 443
  nsbpf path nat/left wan udp 53 --size 1400 && echo it goes through`,
		Args:              wayArgs(4),
		ValidArgsFunction: completeWay(true),
		RunE: func(c *cobra.Command, args []string) error {
			o, err := protoAndPort(args[2:])
			if err != nil {
				return err
			}
			w, err := openWay("look at the configuration of", args[0], args[1], f.six)
			if err != nil {
				return err
			}
			o.Dst, o.Size, o.TTL, o.DontFragment = w.dst, f.size, int(f.ttl), f.df
			if o = o.WithDefaults(); f.size < 0 || o.Size > ping.MaxSize {
				return usagef("size %d is out of range (want 0 to %d)", f.size, ping.MaxSize)
			}
			if err := ping.CheckHost(o.Dst); err != nil {
				return usage(err)
			}
			net, err := forward.ReadNet(w.lab)
			if err != nil {
				return err
			}
			j, err := forward.Walk(net, w.from, packetOf(o))
			if err != nil {
				return err
			}
			if f.json {
				err = report.JourneyJSON(e.stdout, w.lab.Name, j)
			} else {
				err = report.JourneyText(e.stdout, j, e.style())
			}
			return errors.Join(err, blocked(j))
		},
	}
	c.Flags().IntVarP(&f.size, "size", "s", 0, "`BYTES` behind the ICMP or UDP header (default 56)")
	c.Flags().Uint8Var(&f.ttl, "ttl", 0, "TTL or hop limit (default the kernel's)")
	c.Flags().BoolVar(&f.df, "df", false, "do not fragment")
	c.Flags().BoolVarP(&f.six, "ipv6", "6", false, "go to TO's IPv6 address, if TO is a node")
	c.Flags().BoolVar(&f.json, "json", false, "print JSON")
	return c
}

// wayArgs wants FROM and TO, and at most so many words.
func wayArgs(most int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) < 2 || len(args) > most {
			return fmt.Errorf("%s needs a node and where to, a node or an address (nsbpf %[1]s left right)", c.Name())
		}
		return nil
	}
}

// blocked is the error if something stops j or its answer. What it is was printed.
func blocked(j *forward.Journey) error {
	for _, way := range []*forward.Journey{j, j.Back} {
		if way == nil || way.End != forward.Stopped {
			continue
		}
		will := "will"
		if way.From == "" { // from outside, if it comes at all
			will = "would"
		}
		return &exitError{exitBlocked, fmt.Errorf("%s %s be stopped in %s", way.Packet, will, way.At)}
	}
	return nil
}

// protoAndPort reads [PROTO [PORT]].
func protoAndPort(args []string) (o ping.Options, err error) {
	if len(args) == 0 {
		return o, nil
	}
	if o.Proto, err = ping.ParseProto(args[0]); err != nil {
		return o, usage(err)
	}
	if len(args) == 2 {
		port, err := strconv.ParseUint(args[1], 10, 16)
		if err != nil || port == 0 {
			return o, usagef("%q is no port (want a number from 1 to 65535)", args[1])
		}
		o.Port = uint16(port)
	}
	return o, checkPort(o, "name it behind, as in "+args[0]+" 80")
}

// checkPort wants a port of those protocols that have ports.
func checkPort(o ping.Options, hint string) error {
	switch {
	case o.Proto == ping.ICMP && o.Port != 0:
		return usagef("icmp has no ports (leave %d out, or take udp or tcp)", o.Port)
	case o.Proto != ping.ICMP && o.Port == 0:
		return usagef("%s needs a port (%s)", o.Proto, hint)
	}
	return nil
}

// packetOf returns the packet that a probe is.
func packetOf(o ping.Options) forward.Packet {
	p := forward.Packet{Dst: o.Dst, Dport: o.Port, TTL: uint8(o.TTL), Length: o.Length(), DF: o.DontFragment}
	switch o.Proto {
	case ping.UDP:
		p.Proto = forward.UDP
	case ping.TCP:
		p.Proto = forward.TCP
	default:
		p.Proto, p.Type = forward.ICMP, 8
		if o.Dst.Is6() {
			p.Proto, p.Type = forward.ICMP6, 128
		}
	}
	return p
}

// way is what FROM and TO of a command line mean.
type way struct {
	lab  *topology.Lab
	from string
	to   string // as it was asked for
	dst  netip.Addr
}

// openWay opens the lab of "[lab/]node" from, and finds the address of to there.
func openWay(doing, from, to string, six bool) (w way, err error) {
	labName, node := splitNode(from)
	if w.lab, err = workOn(doing, labName); err != nil {
		return w, err
	}
	w.from, w.to = node, to
	t := w.lab.Topology
	if t.Node(node) == nil {
		return w, usagef("lab %q has no node %q (%s)", w.lab.Name, node, meant(node, nodeNames(t)))
	}
	if a, err := netip.ParseAddr(to); err == nil {
		w.dst = a.Unmap()
		if six && w.dst.Is4() {
			return w, usagef("%s is an IPv4 address (leave -6 out)", w.dst)
		}
		return w, nil
	}
	if t.Node(to) == nil {
		return w, usagef("%q is neither an address nor a node of lab %q (%s)", to, w.lab.Name, meant(to, nodeNames(t)))
	}
	if w.dst, err = addressOf(t, node, to, six); err != nil {
		return w, usage(err)
	}
	return w, nil
}

// meant is a hint at what a name should have been.
func meant(name string, names []string) string {
	if hint := nearest.Hint(name, names); hint != "" {
		return hint
	}
	return "it has " + strings.Join(names, ", ")
}

// addressOf returns the address of node to that one goes to from node from: one on
// a net that both are on, else one of its own, else its first. It is IPv4 unless
// six, or there is only IPv6.
func addressOf(t *topology.Topology, from, to string, six bool) (netip.Addr, error) {
	all := prefixesOf(t, to)
	find := func(four bool) (found netip.Addr) {
		for _, p := range all {
			if p.Addr().Is4() != four {
				continue
			}
			for _, near := range prefixesOf(t, from) {
				if near.Bits() < near.Addr().BitLen() && near.Contains(p.Addr()) {
					return p.Addr()
				}
			}
			if !found.IsValid() {
				found = p.Addr()
			}
		}
		return found
	}
	a := find(!six)
	if !a.IsValid() && !six {
		a = find(false)
	}
	switch {
	case a.IsValid():
		return a, nil
	case six && len(all) > 0:
		return a, fmt.Errorf("node %q has no IPv6 address (leave -6 out)", to)
	}
	return a, fmt.Errorf("node %q has no address of its own (give the address)", to)
}

// prefixesOf returns the addresses that a node has by the topology: its own first.
func prefixesOf(t *topology.Topology, node string) []netip.Prefix {
	all := append([]netip.Prefix{}, t.Node(node).Addrs...)
	for _, l := range t.Links {
		for _, e := range []topology.End{l.A, l.B} {
			if e.Node == node {
				all = append(all, e.Addrs...)
			}
		}
	}
	for _, b := range t.Bridges {
		if b.Node == node {
			all = append(all, b.Addrs...)
		}
	}
	return all
}

// completeWay completes FROM and TO, and if asked for a protocol.
func completeWay(proto bool) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		const none = cobra.ShellCompDirectiveNoFileComp
		switch {
		case len(args) == 0:
			return nodeWords(), none
		case len(args) == 1:
			lab, _ := splitNode(args[0])
			return nodeNames(topologyOf(lab)), none
		case len(args) == 2 && proto:
			return []string{"icmp", "udp", "tcp"}, none
		}
		return nil, none
	}
}
