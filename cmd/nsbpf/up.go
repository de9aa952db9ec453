package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nsbpf/nsbpf/assert"
	"github.com/nsbpf/nsbpf/loader"
	"github.com/nsbpf/nsbpf/report"
	"github.com/nsbpf/nsbpf/topology"
	"github.com/nsbpf/nsbpf/trace/filter"
)

// upFlags is the command line of up.
type upFlags struct {
	name     string
	wan      bool
	isolated bool
	dryRun   bool
	rm       bool
	noCount  bool
	hook     string
	json     bool
	trace    traceFlag
	watch    traceFlags
}

func newUpCmd(e *env) *cobra.Command {
	var f upFlags
	c := &cobra.Command{
		Use:   "up [pair|bridge|nat|FILE]",
		Short: "Build a network and count what passes every hop",
		Long: `Build a network of namespaces from a preset or a topology file, and attach a
count program to ingress and egress of every veth end, bridge and uplink.

  pair    two namespaces on a veth pair
  bridge  two namespaces on a bridge
  nat     the bridge with NAT to the outside

The network works when the command returns, and stays until "nsbpf down". What it
changes on the host is undone then. With --trace it goes on to print each packet's
path until Ctrl-C.`,
		Example: `  nsbpf up                          # two namespaces, left and right
  nsbpf up nat --wan --trace        # with an outside of its own; nothing of the host is touched
  nsbpf up nat --trace='icmp and host 8.8.8.8'
  nsbpf up --dry-run bridge         # the commands that do the same
  nsbpf up ./lab.yaml --name try1   # a second copy beside the first`,
		Args: func(c *cobra.Command, args []string) error {
			if f.trace.set && f.trace.expr == everyPacket && len(args) > 0 {
				// --trace EXPR leaves EXPR among the arguments.
				if last := args[len(args)-1]; isExpression(last) {
					return fmt.Errorf("%q looks like an expression, which is joined to its flag (--trace='%s')", last, last)
				}
			}
			return cobra.MaximumNArgs(1)(c, args)
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return topology.Presets(), cobra.ShellCompDirectiveDefault
		},
		RunE: func(c *cobra.Command, args []string) error {
			for _, flag := range []string{"rm", "count", "for", "identity", "sample", "rate", "strict", "quiet", "summary", "ring", "explain", "write", "rotate", "files", "snap"} {
				if c.Flags().Changed(flag) && !f.trace.set {
					return usagef("--%s needs --trace", flag)
				}
			}
			return runUp(c.Context(), e, networkOf(args), &f)
		},
	}
	f.add(c)
	return c
}

// networkOf returns the preset or file that is built.
func networkOf(args []string) string {
	if len(args) == 0 {
		return "pair"
	}
	return args[0]
}

func (f *upFlags) add(c *cobra.Command) {
	fl := c.Flags()
	fl.StringVar(&f.name, "name", "", "call the lab `NAME`, and its namespaces NAME-node")
	fl.BoolVar(&f.wan, "wan", false, "add a simulated outside that answers at 8.8.8.8; implies --isolated")
	fl.BoolVar(&f.isolated, "isolated", false, "put what would be on the host into a namespace of the lab's own")
	fl.BoolVar(&f.dryRun, "dry-run", false, "print the commands that build the same network, and change nothing")
	fl.BoolVar(&f.rm, "rm", false, "with --trace: take the lab down at the end")
	fl.BoolVar(&f.noCount, "no-count", false, "attach no count programs")
	fl.StringVar(&f.hook, "hook", "", "attach by `HOOK`: tcx, clsact; also xdp or xdpgeneric to count there besides tc")
	fl.BoolVar(&f.json, "json", false, "print JSON")
	fl.Var(&f.trace, "trace", "print each packet's path, of those that match `EXPR`")
	fl.Lookup("trace").NoOptDefVal = everyPacket
	f.watch.add(fl)
	completeWords(c, "hook", "tcx", "clsact", "xdp", "xdpgeneric")
	completeFlag(c, "trace", func(_ *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		t, err := f.topology(networkOf(args))
		if err != nil {
			t = &topology.Topology{}
		}
		return exprWords(word, t, true), cobra.ShellCompDirectiveNoFileComp
	})
}

func runUp(ctx context.Context, e *env, arg string, f *upFlags) error {
	t, err := f.topology(arg)
	if err != nil {
		return err
	}
	hooks, err := loader.ParseHooks(f.hook)
	if err != nil {
		return usage(err)
	}
	if f.dryRun && f.json {
		return usagef("--dry-run prints a shell script and does not go with --json (nsbpf show --json prints a lab that is up)")
	}
	if f.dryRun {
		fmt.Fprint(e.stdout, t.Plan().Script())
		return nil
	}
	traced, err := f.watch.options(f.trace.expr, f.json, hooks.TC)
	if err != nil {
		return err
	}
	if err := traced.in(t); err != nil {
		return err
	}
	lab, made, err := bringUp(ctx, e, t, f, hooks)
	if err != nil || !f.trace.set {
		return err
	}
	tr, err := loader.Open(lab).Trace(ctx, traced.attach)
	if err == nil {
		err = runTrace(ctx, e, lab, tr, traced)
	}
	failed := tr == nil && made && ctx.Err() == nil
	if f.rm || failed {
		// The context may be the one that Ctrl-C ended.
		err = errors.Join(err, takeDown(context.WithoutCancel(ctx), lab.Name))
		if err == nil {
			e.say("%s is down", lab.Name)
		}
	}
	return err
}

// topology returns what arg and the flags ask for.
func (f *upFlags) topology(arg string) (*topology.Topology, error) {
	t, err := topology.Load(arg)
	if err != nil {
		return nil, presetError(err)
	}
	if _, err := assert.FromTopology(t); err != nil {
		return nil, err
	}
	switch {
	case f.wan:
		if t, err = t.WithWAN(); err != nil {
			return nil, usage(err)
		}
	case f.isolated:
		t = t.Isolated()
	default:
		devs, err := topology.Uplinks()
		if err != nil {
			return nil, err
		}
		t = t.WithUplinks(devs)
	}
	if f.name != "" {
		if t, err = t.Named(f.name); err != nil {
			return nil, usage(err)
		}
	}
	return t, nil
}

// bringUp applies t and attaches the count programs. A lab that is up as asked
// is left as it is, and was not made.
func bringUp(ctx context.Context, e *env, t *topology.Topology, f *upFlags, hooks loader.Hooks) (lab *topology.Lab, made bool, err error) {
	start := time.Now()
	var as []loader.Attachment
	opts := topology.UpOptions{Detach: loader.Clean}
	if !f.noCount {
		opts.Attach = func(ctx context.Context, l *topology.Lab) (err error) {
			as, err = loader.Open(l).AttachCount(ctx, hooks)
			return err
		}
	}
	lab, err = topology.Up(ctx, t, opts)
	if errors.Is(err, topology.ErrUp) {
		lab, err = alreadyUp(e, t, f)
		return lab, false, err
	}
	if err != nil {
		return nil, false, err
	}
	took := time.Since(start)
	advise(e, t, hooks)
	if f.json && !f.trace.set {
		return lab, true, report.UpJSON(e.stdout, lab.Topology, countHops(as), took)
	}
	e.say("%s", upLine(lab, as, took))
	if !f.trace.set {
		e.say("%s", nextLine(t))
	}
	return lab, true, nil
}

// alreadyUp returns the lab that is up if it is the one that was asked for.
func alreadyUp(e *env, t *topology.Topology, f *upFlags) (*topology.Lab, error) {
	lab, err := topology.Open(t.Name)
	if err != nil {
		return nil, err
	}
	if !reflect.DeepEqual(lab.Topology.Plan(), t.Plan()) {
		return nil, fmt.Errorf("lab %q is up with another topology (take it down first: nsbpf down %s; or give this one a --name)", t.Name, t.Name)
	}
	as, err := loader.Open(lab).Attachments()
	if err != nil {
		return nil, err
	}
	e.say("%s is up already, %s", lab.Name, countedLine(as))
	if f.json && !f.trace.set {
		return lab, report.UpJSON(e.stdout, lab.Topology, countHops(as), 0)
	}
	return lab, nil
}

// advise says what the user would otherwise find out the hard way.
func advise(e *env, t *topology.Topology, hooks loader.Hooks) {
	if hooks.XDP == loader.XDPNative {
		e.warn("native XDP takes segmentation offload from the veth's peer: TCP runs three to five times slower here (count without --hook xdp, or use xdpgeneric)")
	}
	host := t.Node(topology.HostNode)
	if host == nil || host.Netns != "" {
		return
	}
	if len(host.Masquerade) > 0 && len(host.Uplinks) == 0 {
		e.warn("the host has no default route, so nothing outside can be reached (try --wan)")
	}
	if len(t.Bridges) == 0 {
		return
	}
	if chains, err := topology.ForwardDrop(); err == nil && len(chains) > 0 {
		e.warn("%s drops what it does not know, and that is this lab's traffic (accept it there, or use --isolated)", strings.Join(chains, ", "))
	}
}

func countHops(as []loader.Attachment) []report.AttachedHop {
	out := make([]report.AttachedHop, len(as))
	for i, a := range as {
		out[i] = report.AttachedHop{Hop: a.Hop, Hook: a.Hook.String()}
	}
	return out
}

func upLine(lab *topology.Lab, as []loader.Attachment, took time.Duration) string {
	t := lab.Topology
	s := fmt.Sprintf("%s is up in %s: %s, %s", lab.Name, report.Duration(took), plural(len(t.Nodes), "node"), plural(len(t.Links), "link"))
	if n := len(t.Bridges); n > 0 {
		s += ", " + plural(n, "bridge")
	}
	return s + ", " + countedLine(as)
}

func countedLine(as []loader.Attachment) string {
	if len(as) == 0 {
		return "nothing counted"
	}
	return fmt.Sprintf("%s counted by %s", plural(len(as), "hop"), hooksUsed(as))
}

func hooksUsed(as []loader.Attachment) string {
	var words []string
	seen := make(map[loader.Hook]bool)
	for _, a := range as {
		if !seen[a.Hook] {
			seen[a.Hook] = true
			words = append(words, a.Hook.String())
		}
	}
	return strings.Join(words, " and ")
}

// nextLine proposes a first packet.
func nextLine(t *topology.Topology) string {
	for _, l := range t.Links {
		from, to := l.A, farAddr(t, l)
		if from.Node != topology.HostNode && to != "" {
			return fmt.Sprintf("try: nsbpf exec %s/%s -- ping -c1 %s", t.Name, from.Node, to)
		}
	}
	return "see: nsbpf show " + t.Name
}

// farAddr returns an address that l.A's node can ping: that of another node's end.
func farAddr(t *topology.Topology, l topology.Link) string {
	for _, o := range t.Links {
		for _, end := range []topology.End{o.B, o.A} {
			if end.Node != l.A.Node && len(end.Addrs) > 0 {
				return end.Addrs[0].Addr().String()
			}
		}
	}
	return ""
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

// isExpression reports whether s is one and no network.
func isExpression(s string) bool {
	if slices.Contains(topology.Presets(), s) {
		return false
	}
	_, err := filter.Parse(s)
	return err == nil
}

// presetError makes an unknown preset an error of the command line; a file that
// is missing or wrong is none.
func presetError(err error) error {
	var inFile *topology.Error
	var missing *fs.PathError
	if errors.As(err, &inFile) || errors.As(err, &missing) {
		return err
	}
	return usage(err)
}
