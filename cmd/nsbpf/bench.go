package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/nsbpf/nsbpf/bench"
	"github.com/nsbpf/nsbpf/bench/chart"
	"github.com/nsbpf/nsbpf/bench/compare"
	"github.com/nsbpf/nsbpf/bench/format"
	"github.com/nsbpf/nsbpf/bench/load"
	"github.com/nsbpf/nsbpf/bench/result"
	"github.com/nsbpf/nsbpf/report"
)

// benchFlags are the flags of `bench`.
type benchFlags struct {
	settings map[string]*string // of the load, by the key that --vary knows them by
	gso      bool
	overUDP  bool
	reset    bool
	six      bool
	port     uint16
	duration time.Duration
	rounds   int
	until    effect
	vary     []string
	search   bool
	format   string
	json     bool
	file     string
	svg      string
}

func (f *benchFlags) add(fl *pflag.FlagSet) {
	f.settings = make(map[string]*string)
	text := func(key, usage string) { f.settings[key] = fl.String(key, "", usage) }
	text("mode", "load by `MODE`: tcp, udp, rr, crr, pps or skb (default tcp)")
	text("size", "`BYTES` of a frame, of tcp of a write, of rr and crr of a message; or imix")
	text("flows", "`N` streams, source ports or clients (default 1)")
	text("threads", "`N` threads on each side (default 1)")
	text("rate", "send at `RATE`, such as 100k (packets or transactions a second) or 100mbit (default as fast as it goes)")
	text("cpus", "pin the senders' threads and then the receivers' to the CPUs of `LIST`, such as 0,2-3")
	fl.BoolVar(&f.gso, "gso", false, "let the kernel cut large datagrams into frames (udp)")
	fl.BoolVar(&f.overUDP, "over-udp", false, "requests and responses are datagrams (rr)")
	fl.BoolVar(&f.reset, "reset", false, "end connections by a reset (crr)")
	fl.BoolVarP(&f.six, "ipv6", "6", false, "go to TO's IPv6 address, if TO is a node")
	fl.Uint16VarP(&f.port, "port", "p", 0, "send to `PORT` (default a free one, of pps and skb 9)")
	fl.DurationVar(&f.duration, "duration", 50*time.Millisecond, "measure for `DURATION` each time")
	fl.IntVar(&f.rounds, "rounds", compare.Rounds, "measure each variant `N` times, after one round that warms up")
	fl.Var(&f.until, "until", "end as soon as the cost of CPU is known within `PERCENT`, such as 3%")
	fl.Lookup("until").DefValue = ""
	fl.StringArrayVar(&f.vary, "vary", nil, "compare variants: `KEY=A,B` as in size=64,1514; repeat it for all combinations")
	fl.BoolVar(&f.search, "search", false, "look for the highest rate without loss too (udp, pps, skb)")
	fl.StringVar(&f.format, "format", "table", "print as `FORMAT`: table, "+strings.Join(format.Names(), ", "))
	fl.BoolVar(&f.json, "json", false, "print JSON, with every sample, as --format json")
	fl.StringVarP(&f.file, "output", "o", "", "write the result to `FILE`, as JSON unless --format says otherwise, and print the table")
	fl.StringVar(&f.svg, "svg", "", "draw the result to `FILE` besides")
}

func newBenchCmd(e *env) *cobra.Command {
	var f benchFlags
	c := &cobra.Command{
		Use:   "bench [LAB/]FROM TO",
		Short: "Measure what a path carries",
		Long: `Put load on the path from a node to another, by generators of our own inside their
namespaces, and measure what arrives, what it costs of the CPUs, and where the rest
was lost.

  tcp   streams                      rr    requests and responses, one at a time
  udp   datagrams                    crr   the same, with a connection for each
  pps   frames that a program puts out of FROM's veth end
  skb   frames that a program gives to the stack where FROM's veth pair ends

Each variant is measured once a round, in turn, and the first twice: what the two
differ by is the noise of this machine. Medians stand with their 95 % interval.
Rates of shared machines drift; the cost of CPU is what "bench compare" judges.

--search looks besides for the highest rate at which nothing is lost, to one hundredth
of what was sent flat out, three times (RFC 2544, section 26.1).

--vary takes ` + strings.Join(bench.Keys(), ", ") + `.
Values of hook are none, count, trace, tcx, clsact, xdp and xdp-generic; after a run
that varies it the counters of the lab begin again. mtu is set at the lab's veth
ends on the path. Both are put back as they were, also after Ctrl-C, which ends with
what was measured until then.`,
		Example: `  nsbpf bench left right
  nsbpf bench left right --mode rr --until 3%
  nsbpf bench nat/left wan --mode skb --rounds 50 --duration 100ms
  nsbpf bench left right --mode udp --vary size=64,1514 --vary hook=none,count
  nsbpf bench left right --mode udp --search --rounds 10
  nsbpf bench left right -o new.json --svg new.svg`,
		Args:              wayArgs(2),
		ValidArgsFunction: completeWay(false),
		RunE: func(c *cobra.Command, args []string) error {
			specs, err := f.plan(c.Flags())
			if err != nil {
				return err
			}
			w, err := openWay("load a path of", args[0], args[1], f.six)
			if err != nil {
				return err
			}
			return runBench(c.Context(), e, w, &f, specs)
		},
	}
	f.add(c.Flags())
	completeBench(c)
	c.AddCommand(newOverheadCmd(e), newBenchCompareCmd(e))
	return c
}

// completeBench lets the shell complete the flags of bench.
func completeBench(c *cobra.Command) {
	modes := make([]string, len(load.Modes))
	for i, m := range load.Modes {
		modes[i] = string(m)
	}
	completeWords(c, "mode", modes...)
	completeWords(c, "format", append([]string{"table"}, format.Names()...)...)
	completeFlag(c, "vary", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		var words []string
		for _, k := range bench.Keys() {
			words = append(words, k+"=")
		}
		return words, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	})
}

// variant is one combination of what is varied.
type variant struct {
	name   string
	spec   load.Spec
	values map[string]string // of the lab's state: hook, mtu
}

// plan checks the flags and returns the variants, without their places.
func (f *benchFlags) plan(fl *pflag.FlagSet) ([]variant, error) {
	if f.rounds < 1 || f.duration < 10*time.Millisecond {
		return nil, usagef("bench needs at least 1 round of 10ms (got --rounds %d --duration %s)", f.rounds, f.duration)
	}
	if err := f.checkOutput(fl); err != nil {
		return nil, err
	}
	base := load.Spec{Mode: load.TCP, Duration: f.duration, GSO: f.gso, OverUDP: f.overUDP, Reset: f.reset, Port: f.port}
	for _, key := range bench.Keys() {
		if value := f.settings[key]; value != nil && fl.Lookup(key).Changed {
			if err := bench.Set(&base, key, *value); err != nil {
				return nil, usagef("--%s: %w", key, err)
			}
		}
	}
	var axes []bench.Axis
	for _, v := range f.vary {
		a, err := bench.ParseAxis(v)
		if err != nil {
			return nil, usagef("--vary: %w", err)
		}
		if given := fl.Lookup(a.Key); given != nil && given.Changed {
			return nil, usagef("--%s and --vary %s exclude each other", a.Key, v)
		}
		axes = append(axes, a)
	}
	all, err := bench.Product(axes)
	if err != nil {
		return nil, usagef("--vary: %w", err)
	}
	var variants []variant
	for _, values := range all {
		v := variant{name: bench.NameOf(axes, values), spec: base, values: values}
		err := v.set()
		if err == nil && f.search {
			err = checkSearch(v.spec)
		}
		if err != nil {
			return nil, usage(err)
		}
		variants = append(variants, v)
	}
	return variants, nil
}

// set enters the values into the load, as far as they are of it.
func (v *variant) set() error {
	for key, value := range v.values {
		var err error
		switch key {
		case "hook":
			_, err = parseHookState(value)
		case "mtu":
			_, err = parseMTU(value)
		default:
			err = bench.Set(&v.spec, key, value)
		}
		if err != nil {
			return fmt.Errorf("--vary %s: %w", key, err)
		}
	}
	if v.name == "" {
		v.name = string(v.spec.Mode)
	}
	return checkLoad(v.spec)
}

// checkLoad finds what is wrong with a load before its path is known.
func checkLoad(s load.Spec) error {
	s.From, s.To = load.Place{Node: "FROM", Device: "FROM"}, load.Place{Node: "TO", Device: "TO"}
	s.From.Addr, s.To.Addr = nowhere, nowhere
	_, err := s.Check()
	return err
}

// checkOutput finds what is wrong with where the result is to go, before it is there.
func (f *benchFlags) checkOutput(fl *pflag.FlagSet) error {
	if f.json && fl.Lookup("format").Changed && f.format != "json" {
		return usagef("--json and --format %s exclude each other", f.format)
	}
	if f.json || f.file != "" && !fl.Lookup("format").Changed {
		f.format = "json"
	}
	if f.format != "table" && !slices.Contains(format.Names(), f.format) {
		return usagef("--format %q does not exist (want one of table, %s)", f.format, strings.Join(format.Names(), ", "))
	}
	for _, file := range []string{f.file, f.svg} {
		if file == "" {
			continue
		}
		if dir, err := os.Stat(filepath.Dir(file)); err != nil || !dir.IsDir() {
			return usagef("%s cannot be written: there is no directory %s", file, filepath.Dir(file))
		}
		if at, err := os.Stat(file); err == nil && at.IsDir() {
			return usagef("%s cannot be written: it is a directory", file)
		}
	}
	if f.file != "" && f.file == f.svg {
		return usagef("-o and --svg name the same file %s", f.file)
	}
	return nil
}

// show writes the document as the flags say.
func (f *benchFlags) show(e *env, d *result.Document) error {
	var out bytes.Buffer
	table := func() error { return report.BenchTable(e.stdout, d, e.style()) }
	if f.format == "table" && f.file == "" {
		return errors.Join(table(), f.draw(d))
	}
	var err error
	if f.format == "table" {
		err = report.BenchTable(&out, d, report.Style{})
	} else {
		err = format.Write(&out, f.format, d)
	}
	if err != nil {
		return err
	}
	if f.file == "" {
		_, err = e.stdout.Write(out.Bytes())
	} else if err = os.WriteFile(f.file, out.Bytes(), 0o644); err == nil && !f.json {
		err = table()
	}
	return errors.Join(err, f.draw(d))
}

// draw writes the image that was asked for.
func (f *benchFlags) draw(d *result.Document) error {
	if f.svg == "" {
		return nil
	}
	var out bytes.Buffer
	if err := chart.Write(&out, d); err != nil {
		return err
	}
	return os.WriteFile(f.svg, out.Bytes(), 0o644)
}

// runBench measures the variants and prints the result, also what there is of it when
// ctx ends.
func runBench(ctx context.Context, e *env, w way, f *benchFlags, variants []variant) (err error) {
	b, err := openBenching(w, variants)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	cases, err := b.cases(variants)
	if err != nil {
		return err
	}
	d, err := b.measure(ctx, e, f, cases)
	if d != nil {
		err = errors.Join(f.show(e, d), err)
	}
	return err
}
