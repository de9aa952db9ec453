package topology

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nsbpf/nsbpf/internal/netns"
	"github.com/nsbpf/nsbpf/internal/testenv"
)

// shell runs lines of shell, and undo at the test's end.
func shell(t *testing.T, do, undo string) {
	t.Helper()
	t.Cleanup(func() { testenv.Run(t, "sh", "-ec", undo) })
	testenv.Run(t, "sh", "-ec", do)
}

func TestCollisions(t *testing.T) {
	testenv.Root(t)
	shell(t, `
		ip netns add right
		ip link add br0 type bridge
		ip link add other0 type veth peer name other1
		ip link property add dev other0 altname left-br0-veth
		ip addr add 172.16.0.1/12 dev other0
		ip link set other0 up
		while ip link show other0 | grep -q 'state UNKNOWN'; do :; done
		nft add table ip6 nsbpf-nat`, `
		ip netns del right; umount /run/netns; rmdir /run/netns
		ip link del br0; ip link del other0
		nft delete table ip6 nsbpf-nat`)
	before := testenv.Snapshot(t)
	_, err := Up(context.Background(), load(t, "nat"), UpOptions{})
	var c *CollisionError
	if !errors.As(err, &c) {
		t.Fatal(err)
	}
	want := []string{
		`namespace "right"`,
		`device "br0"`,
		`device "left-br0-veth"`,
		`network 172.16.16.0/24 with 172.16.0.0/12 on "other0"`,
		`nft table "nsbpf-nat"`,
	}
	if diff := cmp.Diff(want, c.Collisions); diff != "" {
		t.Errorf("collisions (-want +got):\n%s", diff)
	}
	unchanged(t, before)
}

// TestLookAlikes has others make what looks like ours, before down and in the
// place of what a killed up did not get to.
func TestLookAlikes(t *testing.T) {
	testenv.Root(t)
	topo := load(t, "nat")
	up(t, topo)
	group := testenv.Run(t, "sh", "-c", "ip -d link show br0 | grep -o 'group [0-9]*'")
	shell(t, `
		ip link add look0 `+strings.TrimSpace(group)+` type veth peer name look1
		ip netns add look
		ip -n look link set lo alias nsbpf:nat
		ip link del left-br0-veth
		ip link add left-br0-veth type veth peer name look2
		nft delete table ip nsbpf-nat
		nft add table ip nsbpf-nat
		ip netns del left
		ip netns add left`, `
		ip link del look0; ip link del left-br0-veth
		ip netns del look; ip netns del left
		umount /run/netns; rmdir /run/netns
		nft delete table ip nsbpf-nat`)
	takeDown(t, "nat")
	testenv.Run(t, "sh", "-ec", `
		ip link show look0; ip link show left-br0-veth
		ip netns exec look true; ip netns exec left true
		nft list table ip nsbpf-nat`)
	if netns.Exists("right") {
		t.Error("right is still there")
	}
	if out := testenv.Run(t, "ip", "-o", "link"); strings.Contains(out, "br0:") || strings.Contains(out, "right-br0") {
		t.Errorf("devices of ours are still there:\n%s", out)
	}
}

func TestTwoLabsShareForwarding(t *testing.T) {
	testenv.Root(t)
	testenv.Uplink(t)
	shell(t, "sysctl -qw net.ipv4.conf.eth0.forwarding=0 net.ipv4.conf.lo.forwarding=1 net.ipv4.conf.all.accept_redirects=0 net.ipv6.conf.lo.forwarding=1",
		"sysctl -qw net.ipv4.conf.lo.forwarding=0 net.ipv4.conf.all.accept_redirects=1 net.ipv6.conf.lo.forwarding=0")
	before := testenv.Snapshot(t)
	one := load(t, "nat")
	text := strings.NewReplacer("172.16.16.", "172.16.17.", "fd16:", "fd17:", "left", "west", "right", "east", "br0", "br1", "name: nat", "name: two").
		Replace(string(must[[]byte](t)(os.ReadFile("../examples/nat.yaml"))))
	two, err := Parse("two.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	up(t, one)
	up(t, two)
	takeDown(t, one.Name)
	ping(t, "west", "8.8.8.8")
	ping(t, "west", "2001:4860:4860::8888")
	takeDown(t, two.Name)
	unchanged(t, before)
}

// TestChangedSince leaves a parameter alone that somebody else set meanwhile.
func TestChangedSince(t *testing.T) {
	testenv.Root(t)
	topo := load(t, "pair")
	topo.Nodes = append(topo.Nodes, Node{Name: HostNode, Sysctls: []Sysctl{{"net.ipv4.tcp_ecn", "1"}, {"net.ipv4.tcp_rmem", "4096 131072 7000000"}}})
	for _, tt := range []struct{ name, meanwhile, want string }{
		{"restored", "true", "2"},
		{"left alone", "sysctl -qw net.ipv4.tcp_ecn=0", "0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			shell(t, "sysctl -qw net.ipv4.tcp_ecn=2", "sysctl -qw net.ipv4.tcp_ecn=2")
			rmem := testenv.Run(t, "sysctl", "net.ipv4.tcp_rmem")
			up(t, topo)
			if got := testenv.Run(t, "sysctl", "-n", "net.ipv4.tcp_rmem"); fields(got) != "4096 131072 7000000" {
				t.Errorf("tcp_rmem %q", got)
			}
			testenv.Run(t, "sh", "-ec", tt.meanwhile)
			takeDown(t, topo.Name)
			if got := testenv.Run(t, "sysctl", "-n", "net.ipv4.tcp_ecn"); fields(got) != tt.want {
				t.Errorf("tcp_ecn is %q, want %s", got, tt.want)
			}
			if got := testenv.Run(t, "sysctl", "net.ipv4.tcp_rmem"); got != rmem {
				t.Errorf("%s, want %s", got, rmem)
			}
		})
	}
}

// TestInterop uses `ip netns` beside a lab.
func TestInterop(t *testing.T) {
	testenv.Root(t)
	before := testenv.Snapshot(t)
	up(t, load(t, "pair"))
	testenv.Run(t, "ip", "netns", "add", "other")
	testenv.Run(t, "ip", "netns", "del", "other")
	if got := testenv.Run(t, "ip", "netns", "list"); !strings.Contains(got, "left") || !strings.Contains(got, "right") {
		t.Errorf("ip netns list: %s", got)
	}
	// A mount namespace that others made meanwhile must not keep ours busy.
	other := exec.Command("unshare", "-m", "sleep", "60")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	testenv.Run(t, "ip", "netns", "del", "left")
	takeDown(t, "pair")
	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = other.Wait()
	unchanged(t, before)
}

func TestHeld(t *testing.T) {
	testenv.Root(t)
	before := testenv.Snapshot(t)
	up(t, load(t, "pair"))
	left := exec.Command("ip", "netns", "exec", "left", "sh", "-c", "echo; exec sleep 60")
	out, err := left.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := left.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil { // it is inside now
		t.Fatal(err)
	}
	err = Down(context.Background(), "pair", DownOptions{})
	var held *HeldError
	if !errors.As(err, &held) || len(held.Processes) != 1 || held.Processes[0].PID != left.Process.Pid {
		t.Errorf("error %v", err)
	}
	unchanged(t, before)
	_ = left.Process.Kill()
	_ = left.Wait()
}

func TestMountedBPF(t *testing.T) {
	testenv.Root(t)
	before := testenv.Snapshot(t)
	lab := up(t, load(t, "pair"))
	bpf := filepath.Join(lab.Dir, "bpf")
	if err := os.Mkdir(bpf, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("bpf", bpf, "bpf", 0, ""); err != nil {
		t.Fatal(err)
	}
	err := Down(context.Background(), "pair", DownOptions{})
	if err == nil || !strings.Contains(err.Error(), "still mounted") {
		t.Errorf("error %v", err)
	}
	ping(t, "left", "172.16.16.20") // nothing was undone
	if err := unix.Unmount(bpf, 0); err != nil {
		t.Fatal(err)
	}
	takeDown(t, "pair")
	unchanged(t, before)
}

// TestForeignFile keeps what others have beside the labs, and nothing of ours.
func TestForeignFile(t *testing.T) {
	testenv.Root(t)
	before := testenv.Snapshot(t)
	up(t, load(t, "pair"))
	foreign := filepath.Join(runDir, "foreign")
	if err := os.WriteFile(foreign, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	takeDown(t, "pair")
	if err := errors.Join(os.Remove(foreign), os.Remove(runDir)); err != nil {
		t.Error(err)
	}
	unchanged(t, before)
}

// TestOtherHost asks for a lab whose host is another namespace.
func TestOtherHost(t *testing.T) {
	testenv.Root(t)
	before := testenv.Snapshot(t)
	up(t, load(t, "nat"))
	elsewhere, err := netns.Open("left")
	if err != nil {
		t.Fatal(err)
	}
	defer elsewhere.Close()
	_ = netns.Do(elsewhere, func() error {
		err := Down(context.Background(), "nat", DownOptions{})
		if err == nil || !strings.Contains(err.Error(), "another network namespace") {
			t.Errorf("error %v", err)
		}
		return nil
	})
	takeDown(t, "nat")
	unchanged(t, before)
}

func TestForwardDrop(t *testing.T) {
	testenv.Root(t)
	shell(t, `nft 'table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; chain INPUT { type filter hook input priority 0; policy drop; }; }'`,
		`nft delete table ip filter`)
	got, err := ForwardDrop()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"table ip filter, chain FORWARD"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestUplinks(t *testing.T) {
	testenv.Root(t)
	if got := must[[]string](t)(Uplinks()); got != nil {
		t.Errorf("uplinks %q of a host without", got)
	}
	testenv.Uplink(t)
	if diff := cmp.Diff([]string{"eth0"}, must[[]string](t)(Uplinks())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestUnprivileged is for the ordinary user as for root without capabilities.
func TestUnprivileged(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("needs an ordinary user")
	}
	_, err := Up(context.Background(), load(t, "pair"), UpOptions{})
	if !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), "CAP_NET_ADMIN and CAP_SYS_ADMIN missing (run it with sudo)") {
		t.Errorf("error %v", err)
	}
}

// TestLockWaits has a context end while somebody else holds the lock.
func TestLockWaits(t *testing.T) {
	testenv.Root(t)
	before := testenv.Snapshot(t)
	l, err := lock(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Up(ctx, load(t, "pair"), UpOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if err := l.unlock(); err != nil {
		t.Fatal(err)
	}
	unchanged(t, before)
}

func BenchmarkUpDown(b *testing.B) {
	testenv.Root(b)
	for _, preset := range Presets() {
		b.Run("up/"+preset, func(b *testing.B) {
			for b.Loop() {
				if _, err := Up(context.Background(), load(b, preset), UpOptions{}); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				takeDown(b, preset)
				b.StartTimer()
			}
		})
		b.Run("down/"+preset, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				if _, err := Up(context.Background(), load(b, preset), UpOptions{}); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				takeDown(b, preset)
			}
		})
	}
}
