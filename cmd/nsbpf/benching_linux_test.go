package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/nsbpf/nsbpf/bench/format"
	"github.com/nsbpf/nsbpf/bench/load"
	"github.com/nsbpf/nsbpf/bench/result"
	"github.com/nsbpf/nsbpf/internal/testenv"
)

// benched runs bench with --json and returns its document, which was checked.
func benched(t *testing.T, args ...string) *result.Document {
	t.Helper()
	out := testenv.Run(t, "nsbpf", append([]string{"bench", "--json", "--rounds=2"}, args...)...)
	d, err := result.Read(strings.NewReader(out), strings.Join(args, " "))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestBench measures with each mode over a bridge, by both families, and accounts for
// every packet.
func TestBench(t *testing.T) {
	testenv.Root(t)
	leavesNothing(t)
	upLab(t, "bridge", "--isolated")
	for _, mode := range load.Modes {
		for _, family := range []string{"ipv4", "ipv6"} {
			args := []string{"left", "right", "--mode", string(mode)}
			if family == "ipv6" {
				args = append(args, "-6")
			}
			d := benched(t, args...)
			v := d.Variants[0]
			if d.Rounds != 2 || len(d.Variants) != 1 || v.Settings["family"] != family || v.Settings["hook"] != "count" {
				t.Errorf("%q: %+v", args, d)
			}
			if a := v.Account; a.Sent == 0 || a.Received == 0 || a.Unexplained() != 0 {
				t.Errorf("%q: %+v", args, a)
			}
			if d.Noise.Of("cpu") == nil || v.Bottleneck == "" || len(v.Account.Seen) == 0 || !v.Metric("cpu").Gate {
				t.Errorf("%q: %+v", args, v)
			}
			if transactions := mode == load.RR || mode == load.CRR; transactions != (v.Latency != nil) {
				t.Errorf("%q: latency %+v", args, v.Latency)
			}
			if len(d.Path) != 4 || len(d.Environment.Devices) != 4 || d.Environment.Devices[0].MTU != 1500 || d.Environment.Devices[0].Qdisc != "noqueue" {
				t.Errorf("%q: path %q, devices %+v", args, d.Path, d.Environment.Devices)
			}
		}
	}
}

// TestBenchVary changes the lab between measurements, and puts it back.
func TestBenchVary(t *testing.T) {
	testenv.Root(t)
	leavesNothing(t)
	upLab(t, "pair")
	dir := t.TempDir()
	svg := filepath.Join(dir, "x.svg")
	d := benched(t, "left", "right", "--vary", "hook=none,trace", "--vary", "mtu=1400,9000", "--svg", svg)
	var names []string
	for _, v := range d.Variants {
		names = append(names, v.Name)
		if counted := len(v.Account.Seen) > 0; counted != (v.Settings["hook"] == "trace") {
			t.Errorf("%s: seen %v", v.Name, v.Account.Seen)
		}
	}
	want := []string{"hook=none mtu=1400", "hook=none mtu=9000", "hook=trace mtu=1400", "hook=trace mtu=9000"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("variants (-want +got):\n%s", diff)
	}
	if image, err := os.ReadFile(svg); err != nil || !bytes.HasPrefix(image, []byte("<svg")) {
		t.Errorf("image %.20q, %v", image, err)
	}
	for node, device := range map[string]string{"left": "left-veth", "right": "right-veth"} {
		if out := testenv.Run(t, "ip", "-n", node, "link", "show", device); !strings.Contains(out, "mtu 1500 ") {
			t.Errorf("the MTU is not as it was: %s", out)
		}
	}
	if out := testenv.Run(t, "nsbpf", "stats"); !strings.Contains(out, "left:left-veth in") {
		t.Errorf("nothing counts any more: %s", out)
	}
}

// TestBenchFloor looks for the machine's floor beside frames over one veth pair, and
// writes the result in every format.
func TestBenchFloor(t *testing.T) {
	testenv.Root(t)
	leavesNothing(t)
	upLab(t, "pair")
	d := benched(t, "left", "right", "--mode", "pps")
	floor := d.Variant("floor")
	if floor == nil || !floor.Reference || floor.Metric("cpu").Median <= 0 {
		t.Errorf("floor %+v", floor)
	}
	for _, name := range format.Names() {
		var out bytes.Buffer
		if err := format.Write(&out, name, d); err != nil || out.Len() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// interrupter is a terminal on which somebody presses Ctrl-C when it shows a text.
type interrupter struct {
	bytes.Buffer
	at     string
	cancel context.CancelFunc
}

func (i *interrupter) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(i.at)) {
		i.cancel()
	}
	return i.Buffer.Write(p)
}

// TestBenchInterrupted expects the rounds that had ended, marked, and the lab as it was.
func TestBenchInterrupted(t *testing.T) {
	testenv.Root(t)
	leavesNothing(t)
	upLab(t, "pair")
	for at, rounds := range map[string]int{"9 of ": 1, "2 of ": 0} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var stdout bytes.Buffer
		e := &env{stdout: &stdout, stderr: &interrupter{at: at, cancel: cancel}, progress: true}
		c := newBenchCmd(e)
		c.SilenceErrors, c.SilenceUsage = true, true
		c.SetArgs([]string{"left", "right", "--json", "--rounds=5", "--vary", "hook=none,count", "--vary", "mtu=1400"})
		err := c.ExecuteContext(ctx)
		if err == nil || uninterrupted(ctx, err) != nil && rounds > 0 {
			t.Errorf("%s: %v", at, err)
		}
		if out := testenv.Run(t, "ip", "-n", "left", "link", "show", "left-veth"); !strings.Contains(out, "mtu 1500 ") {
			t.Errorf("%s: the MTU is not as it was: %s", at, out)
		}
		testenv.Run(t, "nsbpf", "stats")
		if rounds == 0 {
			if stdout.Len() > 0 {
				t.Errorf("%s: %s", at, stdout.String())
			}
			continue
		}
		d, err := result.Read(&stdout, at)
		if err != nil || !d.Interrupted || d.Rounds != rounds || len(d.Variants[0].Metrics[0].Samples) != rounds {
			t.Errorf("%s: %+v, %v", at, d, err)
		}
	}
}

// TestBenchWords completes its flags.
func TestBenchWords(t *testing.T) {
	c := newBenchCmd(&env{})
	for flag, want := range map[string]string{"mode": "skb", "format": "bencher", "vary": "hook="} {
		complete, ok := c.GetFlagCompletionFunc(flag)
		if !ok {
			t.Fatalf("--%s completes nothing", flag)
		}
		words, _ := complete(c, nil, "")
		if !strings.Contains(strings.Join(toStrings(words), " "), want) {
			t.Errorf("--%s: %q", flag, words)
		}
	}
}

func toStrings(words []cobra.Completion) []string { return words }
