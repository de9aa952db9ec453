package topology

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/internal/testenv"
)

// compareNetip lets go-cmp look at addresses.
var compareNetip = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

// kernelChoice is what differs between two equal networks: numbers of devices
// and namespaces, MACs of veths and the link-local addresses made of them, and
// whether these are tentative still, what a bridge learned and when its timers
// run out.
var kernelChoice = regexp.MustCompile(`^\d+: |@if\d+|@[a-z0-9-]+|(?:link/ether|permaddr) [0-9a-f:]+|link-netnsid \d+|link-netns \S+|fe80::\S+| tentative\b|` +
	`(?:hello|tcn|topology_change|gc|forward_delay)_timer +\S+|designated_(?:bridge|root) \S+|bridge_id \S+|root_id \S+`)

// dieAt, set to "PRESET N", makes the test binary an nsbpf up that is killed at
// the Nth point where something changed.
const dieAt = "NSBPF_TEST_DIE_AT"

func die(at string) int {
	preset, n, _ := strings.Cut(at, " ")
	left, err := strconv.Atoi(n)
	if err != nil {
		return 2
	}
	t, err := Load(preset)
	if err != nil {
		return 2
	}
	_, err = Up(context.Background(), t, UpOptions{probe: func(string) {
		if left--; left == 0 {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
	}})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// TestKilled kills an up at each of its points; Down then leaves nothing.
func TestKilled(t *testing.T) {
	testenv.Root(t)
	testenv.Uplink(t)
	for _, preset := range Presets() {
		t.Run(preset, func(t *testing.T) {
			before := testenv.Snapshot(t)
			points := 0
			_, err := Up(context.Background(), load(t, preset), UpOptions{probe: func(string) { points++ }})
			if err != nil {
				t.Fatal(err)
			}
			takeDown(t, preset)
			for n := 1; n <= points; n++ {
				cmd := exec.Command("/proc/self/exe")
				cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d", dieAt, preset, n))
				out, err := cmd.CombinedOutput()
				var exit *exec.ExitError
				if !errors.As(err, &exit) || !exit.Sys().(syscall.WaitStatus).Signaled() {
					t.Fatalf("point %d: not killed: %v\n%s", n, err, out)
				}
				if _, err := Up(context.Background(), load(t, preset), UpOptions{}); !errors.Is(err, ErrBroken) {
					t.Errorf("point %d: up of remains: %v", n, err)
				}
				if lab, err := Open(preset); err != nil || lab.State != StateBroken {
					t.Errorf("point %d: lab %v, error %v", n, lab, err)
				}
				takeDown(t, preset)
				if unchanged(t, before); t.Failed() {
					t.Fatalf("point %d of %d", n, points)
				}
			}
		})
	}
}

// TestCancelled ends the context at each point: Up itself leaves nothing.
func TestCancelled(t *testing.T) {
	testenv.Root(t)
	before := testenv.Snapshot(t)
	for n := 1; ; n++ {
		ctx, cancel := context.WithCancel(context.Background())
		left := n
		_, err := Up(ctx, load(t, "bridge"), UpOptions{probe: func(string) {
			if left--; left == 0 {
				cancel()
			}
		}})
		cancel()
		if err == nil {
			break // done before the point was reached
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("point %d: %v", n, err)
		}
		if unchanged(t, before); t.Failed() {
			t.Fatalf("point %d", n)
		}
	}
	takeDown(t, "bridge")
	unchanged(t, before)
}

// TestFailure has a step fail that preflight cannot foresee.
func TestFailure(t *testing.T) {
	testenv.Root(t)
	before := testenv.Snapshot(t)
	topo := load(t, "bridge")
	topo.Nodes[0].Routes = []Route{{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParseAddr("10.9.9.9")}}
	_, err := Up(context.Background(), topo, UpOptions{})
	if err == nil || !strings.Contains(err.Error(), "add route 10.0.0.0/8 via 10.9.9.9") {
		t.Errorf("error %v", err)
	}
	unchanged(t, before)
}

func TestParseJournal(t *testing.T) {
	const head = `{"schema":"nsbpf.lab/1","lab":"a","topology":{"name":"a"}}` + "\n"
	step := `{"SetUp":{"netns":"left","device":"x"}}` + "\n"
	for _, tt := range []struct {
		name, text string
		steps      int
		err        string
	}{
		{"empty", "", 0, "the journal is empty"},
		{"torn head", head[:20], 0, "the journal is empty"},
		{"head", head, 0, ""},
		{"step", head + step, 1, ""},
		{"torn step", head + step + step[:9], 1, ""},
		{"other version", `{"schema":"nsbpf.lab/2"}` + "\n", 0, `journal line 1: schema "nsbpf.lab/2" (this nsbpf writes "nsbpf.lab/1"; use the one that brought the lab up)`},
		{"unknown step", head + `{"X":{}}` + "\n", 0, `journal line 2: decoding a step: unknown type "X"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, p, err := parseJournal([]byte(tt.text))
			text := ""
			if err != nil {
				text = err.Error()
			}
			if text != tt.err || len(p) != tt.steps {
				t.Errorf("%d steps, error %q, want %d, %q", len(p), text, tt.steps, tt.err)
			}
		})
	}
}

func FuzzParseJournal(f *testing.F) {
	f.Add([]byte(`{"schema":"nsbpf.lab/1","lab":"a","topology":{"name":"a"}}` + "\n" + `{"AddAddr":{"device":"lo","addr":"10.0.0.1/8"}}` + "\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, _, err := parseJournal(b); err == nil && r == nil {
			t.Error("neither record nor error")
		}
	})
}
