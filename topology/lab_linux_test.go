package topology

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/internal/netns"
	"github.com/nsbpf/nsbpf/internal/testenv"
)

func TestMain(m *testing.M) {
	if at := os.Getenv(dieAt); at != "" {
		os.Exit(die(at))
	}
	os.Exit(testenv.Main(m))
}

// up brings t up and, at the test's end, down.
func up(tb testing.TB, t *Topology) *Lab {
	tb.Helper()
	lab, err := Up(context.Background(), t, UpOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := Down(context.Background(), t.Name, DownOptions{}); err != nil && !errors.Is(err, ErrNotUp) {
			tb.Error(err)
		}
	})
	return lab
}

func takeDown(tb testing.TB, name string) {
	tb.Helper()
	if err := Down(context.Background(), name, DownOptions{}); err != nil {
		tb.Fatal(err)
	}
}

// unchanged compares the host with what it was.
func unchanged(tb testing.TB, before string) {
	tb.Helper()
	if diff := cmp.Diff(before, testenv.Snapshot(tb)); diff != "" {
		tb.Errorf("the host is not as it was (-before +after):\n%s", diff)
	}
}

// ping sends one echo request, with no second chance: up has waited.
func ping(tb testing.TB, space, to string) {
	tb.Helper()
	testenv.Run(tb, "ip", "netns", "exec", space, "ping", "-nq", "-c", "1", "-W", "2", to)
}

func TestUpDown(t *testing.T) {
	testenv.Root(t)
	testenv.Uplink(t)
	inside := []string{"172.16.16.20", "fd16::20"}
	outside := append(inside, "8.8.8.8", "2001:4860:4860::8888")
	for name, topo := range variants(t) {
		if name == "nat-uplinks" {
			topo = load(t, "nat").WithUplinks(must[[]string](t)(Uplinks()))
		}
		t.Run(name, func(t *testing.T) {
			before := testenv.Snapshot(t)
			lab := up(t, topo)
			if lab.State != StateUp {
				t.Errorf("state %q", lab.State)
			}
			targets := inside
			// A node of the lab's own has no way out but a wan.
			if strings.HasPrefix(name, "nat") && (strings.Contains(name, "wan") || !strings.Contains(name, "isolated")) {
				targets = outside
			}
			for _, to := range targets {
				ping(t, topo.Node("left").Netns, to)
			}
			opened, err := Open(topo.Name)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(lab, opened, cmp.AllowUnexported(Lab{}), compareNetip); diff != "" {
				t.Errorf("open returns another lab (-up +open):\n%s", diff)
			}
			takeDown(t, topo.Name)
			unchanged(t, before)
		})
	}
}

// TestScriptIsUp checks that the printed plan, run by a shell, builds what Up does.
func TestScriptIsUp(t *testing.T) {
	testenv.Root(t)
	if err := netns.Prepare(); err != nil { // as the script does, for ever
		t.Fatal(err)
	}
	for name, topo := range variants(t) {
		if name == "nat-uplinks" || strings.Contains(name, "name") && name != "nat-name" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			up(t, topo)
			ours := picture(t, topo)
			takeDown(t, topo.Name)

			file := filepath.Join(t.TempDir(), "up.sh")
			if err := os.WriteFile(file, []byte(topo.Plan().Script()), 0o755); err != nil {
				t.Fatal(err)
			}
			before := testenv.Snapshot(t)
			t.Cleanup(func() { undoScript(t, topo); unchanged(t, before) })
			testenv.Run(t, "sh", file)
			if diff := cmp.Diff(ours, picture(t, topo)); diff != "" {
				t.Errorf("the script's network differs (-up +script):\n%s", diff)
			}
		})
	}
}

// undoScript removes by hand what a script made by hand: enough of a journal
// for Down is what Up would have written.
func undoScript(t *testing.T, topo *Topology) {
	t.Helper()
	k, err := openKernel(topo.Name)
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	l, err := lock(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(labDir(topo.Name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(k.destroy(topo.Plan()), l.unlock()); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"} {
		testenv.Run(t, "sysctl", "-qw", key+"=0", "net.ipv4.conf.all.accept_redirects=1")
	}
}

// picture returns what outside tools see of a lab, without what the kernel
// chose: numbers of devices and MACs of veths.
func picture(t *testing.T, topo *Topology) string {
	t.Helper()
	var b strings.Builder
	for _, n := range topo.Nodes {
		in := func(args ...string) string {
			if n.Netns != "" {
				args = append([]string{"ip", "netns", "exec", n.Netns}, args...)
			}
			return testenv.Run(t, args[0], args[1:]...)
		}
		b.WriteString("== " + n.Name + "\n")
		for _, cmd := range []string{"ip -o -d link", "ip -o addr", "ip route", "ip -6 route", "nft -s list ruleset"} {
			lines := strings.Split(in(strings.Fields(cmd)...), "\n")
			for i := range lines {
				lines[i] = kernelChoice.ReplaceAllString(lines[i], "")
			}
			slices.Sort(lines)
			b.WriteString(strings.Join(lines, "\n") + "\n")
		}
	}
	return b.String()
}

// TestSourceSurvivesBridge is why the masquerade rule has a guard: where
// bridged packets pass netfilter, the textbook's rewrites them, too.
func TestSourceSurvivesBridge(t *testing.T) {
	testenv.Root(t)
	testenv.Uplink(t)
	before := testenv.Snapshot(t)
	const key = "/proc/sys/net/bridge/bridge-nf-call-iptables"
	if v, err := readSysctl(key); err != nil {
		t.Skip("needs br_netfilter")
	} else if v != "1" {
		t.Fatalf("%s = %s", key, v)
	}
	up(t, load(t, "nat"))
	testenv.Run(t, "ip", "netns", "exec", "right", "nft",
		"table ip seen { chain in { type filter hook input priority 0; ip saddr 172.16.16.10 icmp type echo-request counter; }; }")
	ping(t, "left", "172.16.16.20")
	seen := testenv.Run(t, "ip", "netns", "exec", "right", "nft", "list", "table", "ip", "seen")
	if !strings.Contains(seen, "counter packets 1 ") {
		t.Errorf("right did not see 172.16.16.10:\n%s", seen)
	}
	takeDown(t, "nat")
	unchanged(t, before)
}

func TestNetns(t *testing.T) {
	testenv.Root(t)
	lab := up(t, load(t, "pair"))
	for _, node := range []string{"left", HostNode} {
		f, err := lab.Netns(node)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	if _, err := lab.Netns("up"); err == nil || !strings.Contains(err.Error(), `no node "up"`) {
		t.Errorf("error %v", err)
	}
}

func TestIdempotent(t *testing.T) {
	testenv.Root(t)
	before := testenv.Snapshot(t)
	if err := Down(context.Background(), "pair", DownOptions{}); !errors.Is(err, ErrNotUp) {
		t.Errorf("down of nothing: %v", err)
	}
	unchanged(t, before)
	up(t, load(t, "pair"))
	lab, err := Up(context.Background(), load(t, "pair"), UpOptions{})
	if !errors.Is(err, ErrUp) || lab == nil || lab.State != StateUp {
		t.Errorf("second up: lab %v, error %v", lab, err)
	}
	labs, err := Labs()
	if err != nil || len(labs) != 1 || labs[0].Name != "pair" {
		t.Errorf("labs %v, error %v", labs, err)
	}
	takeDown(t, "pair")
	unchanged(t, before)
}
