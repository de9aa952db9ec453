package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/nsbpf/nsbpf/forward"
	"github.com/nsbpf/nsbpf/loader"
	"github.com/nsbpf/nsbpf/ping"
)

// pingFlags are the flags of `ping`.
type pingFlags struct {
	proto    string
	port     uint16
	count    int
	interval time.Duration
	size     int
	ttl      int
	timeout  time.Duration
	df       bool
	six      bool
	explain  bool
	verbose  bool
	json     bool
}

func (f *pingFlags) add(fl *pflag.FlagSet) {
	d := ping.Options{}.WithDefaults()
	fl.StringVar(&f.proto, "proto", "icmp", "probe by `PROTO`: icmp, udp or tcp (a SYN)")
	fl.Uint16VarP(&f.port, "port", "p", 0, "probe this `PORT`, by udp or tcp")
	fl.IntVarP(&f.count, "count", "c", d.Count, "send `N` probes")
	fl.DurationVarP(&f.interval, "interval", "i", d.Interval, "send one each `DURATION`")
	fl.IntVarP(&f.size, "size", "s", 0, "`BYTES` behind the ICMP or UDP header (default 56)")
	fl.IntVar(&f.ttl, "ttl", 0, "TTL or hop limit (default the kernel's)")
	fl.DurationVar(&f.timeout, "timeout", d.Timeout, "wait for an answer for `DURATION`")
	fl.BoolVar(&f.df, "df", false, "do not fragment")
	fl.BoolVarP(&f.six, "ipv6", "6", false, "probe TO's IPv6 address, if TO is a node")
	fl.BoolVar(&f.explain, "explain", false, "watch netfilter's hooks and nft's rules too, so that a rule is named")
	fl.BoolVarP(&f.verbose, "verbose", "v", false, "print the paths of all probes, not only where they change")
	fl.BoolVar(&f.json, "json", false, "print JSON: each path, and what they are together at the end")
}

// options checks the flags; a 0 that was given is not the default.
func (f *pingFlags) options(fl *pflag.FlagSet) (ping.Options, error) {
	o := ping.Options{
		Port: f.port, Count: f.count, Interval: f.interval, Timeout: f.timeout,
		Size: f.size, TTL: f.ttl, DontFragment: f.df,
	}
	var err error
	if o.Proto, err = ping.ParseProto(f.proto); err != nil {
		return o, usagef("--proto: %w", err)
	}
	if err := checkPort(o, "name it by --port, as in --proto "+f.proto+" --port 80"); err != nil {
		return o, err
	}
	for _, flag := range []string{"count", "interval", "timeout", "ttl", "size"} {
		if given := fl.Lookup(flag); given.Changed && (given.Value.String() == "0" || given.Value.String() == "0s") {
			return o, usagef("--%s 0 is too small", flag)
		}
	}
	return o.WithDefaults(), nil
}

func newPingCmd(e *env) *cobra.Command {
	var f pingFlags
	c := &cobra.Command{
		Use:   "ping [LAB/]FROM TO",
		Short: "Send probes, and show the path of each and of its answer",
		Long: `Send probes from inside a node, and show hop by hop the path that each took and
that of its answer. Probes are echo requests, UDP datagrams or TCP SYNs; what
answers is an echo reply, a datagram, a SYN-ACK, a reset or an ICMP error.

TO is a node of the lab or an address. The paths of the first probe are printed,
and then those that differ. At the end stand the time that each edge took, where
probes or answers were lost and why, and where reality differs from what the
configuration makes expect (nsbpf path). The exit code is 1 if no probe was
answered.`,
		Example: `  nsbpf ping left right
  nsbpf ping left 8.8.8.8 -c 3
  nsbpf ping nat/left wan --proto udp --port 53 --size 1400 --df
  nsbpf ping left right --proto tcp --port 22 --explain`,
		Args:              wayArgs(2),
		ValidArgsFunction: completeWay(false),
		RunE: func(c *cobra.Command, args []string) error {
			o, err := f.options(c.Flags())
			if err != nil {
				return err
			}
			w, err := openWay("probe from a node of", args[0], args[1], f.six)
			if err != nil {
				return err
			}
			o.Dst = w.dst
			if err := o.Check(); err != nil {
				return usage(err)
			}
			return runPing(c.Context(), e, w, o, &f)
		},
	}
	f.add(c.Flags())
	completeWords(c, "proto", "icmp", "udp", "tcp")
	return c
}

// runPing sends the probes while it traces them, and prints what became of them.
func runPing(ctx context.Context, e *env, w way, o ping.Options, f *pingFlags) (err error) {
	ns, err := w.lab.Netns(w.from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ns.Close()) }()
	net, err := forward.ReadNet(w.lab)
	if err != nil {
		return err
	}
	packet := packetOf(o)
	prober, err := ping.Open(ns, o)
	if err != nil {
		return fmt.Errorf("%w%s", err, firstObstacle(forward.Walk(net, w.from, packet)))
	}
	defer func() { err = errors.Join(err, prober.Close()) }()
	if mtu := prober.MTU(); o.Length() > mtu {
		if o.DontFragment {
			return usagef("size %d makes packets of %d bytes, above the MTU %d of the way (leave --df out to send them in fragments, or take --size %d)",
				o.Size, o.Length(), mtu, o.Size-o.Length()+mtu)
		}
		e.warn("size %d makes packets of %d bytes, above the MTU %d of the way: they go in fragments", o.Size, o.Length(), mtu)
		packet.Length = mtu
	}
	p := newPingPrinter(e, w, o, f, prober)
	if p.journey, err = forward.Walk(net, w.from, packet); err != nil {
		p.report.Untold = err.Error()
	}
	run, err := tracedProbes(probeExpr(o), f.explain, f.json)
	if err != nil {
		return err
	}
	tr, err := loader.Open(w.lab).Trace(ctx, run.attach)
	if err != nil {
		return err
	}
	l, err := openLive(e, w.lab, tr, run, p.add)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	e.say("probing %s from %s of %s by %s at %s, Ctrl-C ends it", p.target(), w.from, w.lab.Name, o.Proto, plural(len(tr.Hops), "hop"))
	warnTaken(e, tr.Taken)
	p.open(l.session)
	return p.run(ctx, l, prober)
}

// tracedProbes returns a trace of all that can be a probe or its answer. Their
// addresses and ports may be translated on the way, and those of an answer are
// not known where it begins, so they choose nothing here.
func tracedProbes(expr string, explain, json bool) (traceRun, error) {
	var t traceFlags
	t.add(pflag.NewFlagSet("", pflag.ContinueOnError)) // which sets the defaults
	t.explain = explain
	return t.options(expr, json, loader.HookNone)
}

// probeExpr returns the expression of probes and their answers.
func probeExpr(o ping.Options) string {
	if o.Dst.Is4() {
		return map[ping.Proto]string{
			ping.ICMP: "icmp", ping.UDP: "icmp or (ip and udp)", ping.TCP: "icmp or (ip and (tcp-syn or tcp-rst))",
		}[o.Proto]
	}
	icmp6 := "(icmp6 and icmp6[icmp6type] < 130)" // errors and echoes
	const minMTU = 1280                           // a longer probe may be told to come in fragments
	if o.Length() > minMTU {
		icmp6 = "icmp6" // the type of these is not where it looks
	}
	return map[ping.Proto]string{
		ping.ICMP: icmp6, ping.UDP: icmp6 + " or (ip6 and udp)", ping.TCP: icmp6 + " or (ip6 and (tcp-syn or tcp-rst))",
	}[o.Proto]
}

// firstObstacle says what stands in the way before a first hop, as a hint.
func firstObstacle(j *forward.Journey, err error) string {
	if err != nil || len(j.Steps) > 0 || len(j.Obstacles) == 0 {
		return ""
	}
	return " (" + j.Obstacles[0].Sentence + ")"
}
