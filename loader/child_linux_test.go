package loader

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/nsbpf/nsbpf/topology"
)

// childDoes makes the test binary a process that does something to a lab, on the
// host of the tests: "WORK LAB HOOK N", see [child].
const childDoes = "NSBPF_TEST_CHILD"

// command returns a child; whatever it says is an error.
func command(work string, lab *topology.Lab, hook Hook, n int) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %s %d", childDoes, work, lab.Name, hook, n))
	return cmd
}

func runChild(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Fatalf("%v\n%s", err, out)
	}
}

// killChild runs a child that kills itself.
func killChild(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !exit.Sys().(syscall.WaitStatus).Signaled() {
		t.Fatalf("it was not killed: %v\n%s", err, out)
	}
}

// dying is a context that kills the process when it is asked whether it ended
// for the time after left: before each attaching.
type dying struct {
	context.Context
	left int
}

func (d *dying) Err() error {
	if d.left--; d.left < 0 {
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	}
	return d.Context.Err()
}

func child(what string) int {
	words := strings.Fields(what)
	var hook Hook
	n, err := strconv.Atoi(words[3])
	lab, err2 := topology.Open(words[1])
	if err := errors.Join(err, err2, hook.UnmarshalText([]byte(words[2]))); err != nil {
		fmt.Println(err)
		return 1
	}
	err = map[string]func(*topology.Lab, Hook, int) error{
		"count":  dieCounting,
		"trace":  dieTracing,
		"attach": dieAttaching,
		"old":    onOldKernel,
		"no-btf": withoutBTF,

		"latency":     dieTiming,
		"latency-old": timeOnOldKernel,
	}[words[0]](lab, hook, n)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// dieCounting is killed after n hops.
func dieCounting(lab *topology.Lab, hook Hook, n int) error {
	_, err := Open(lab).AttachCount(&dying{ctx, n}, Hooks{TC: hook})
	return fmt.Errorf("not killed: %w", err)
}

// dieTracing is killed with its trace at all hops.
func dieTracing(lab *topology.Lab, hook Hook, _ int) error {
	tr, err := Open(lab).Trace(ctx, TraceOptions{Hook: hook, Explain: true})
	if err != nil {
		return err
	}
	_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	return tr.Close()
}

// dieAttaching is killed with its trace at n hops.
func dieAttaching(lab *topology.Lab, hook Hook, n int) error {
	_, err := Open(lab).Trace(&dying{ctx, n}, TraceOptions{Hook: hook})
	return fmt.Errorf("not killed: %w", err)
}

// onOldKernel attaches where the kernel has no tcx.
func onOldKernel(lab *topology.Lab, _ Hook, _ int) error {
	if err := refuseLinks(); err != nil {
		return err
	}
	l := Open(lab)
	if _, err := l.AttachCount(ctx, Hooks{TC: TCX}); !errors.Is(err, ebpf.ErrNotSupported) {
		return fmt.Errorf("count by tcx: %v", err)
	}
	as, err := l.AttachCount(ctx, Hooks{})
	if err != nil {
		return err
	}
	for _, a := range as {
		if a.Hook != Clsact {
			return fmt.Errorf("%s is counted by %s", a.Hop, a.Hook)
		}
	}
	if _, err := l.Trace(ctx, TraceOptions{Hook: TCX}); !errors.Is(err, ebpf.ErrNotSupported) {
		return fmt.Errorf("trace by tcx: %v", err)
	}
	tr, err := l.Trace(ctx, TraceOptions{})
	if err != nil {
		return err
	}
	return tr.Close()
}

// refuseLinks makes bpf(BPF_LINK_CREATE) fail in this process as it does in a
// kernel that does not know the type of link.
func refuseLinks() error {
	const (
		linkCreate = 28 // of enum bpf_cmd
		offNr      = 0  // of struct seccomp_data
		offArg0    = 16 // its low half, little endian
		allow      = 0x7fff0000
		fail       = 0x00050000
	)
	raw, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: offNr, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.SYS_BPF, SkipTrue: 3},
		bpf.LoadAbsolute{Off: offArg0, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: linkCreate, SkipTrue: 1},
		bpf.RetConstant{Val: fail | uint32(unix.EINVAL)},
		bpf.RetConstant{Val: allow},
	})
	if err != nil {
		return err
	}
	prog := unix.SockFprog{Len: uint16(len(raw)), Filter: (*unix.SockFilter)(unsafe.Pointer(&raw[0]))}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	return nil
}

// withoutBTF tries to trace and to count where the kernel does not show its
// types. The mount namespace is the child's own.
func withoutBTF(lab *topology.Lab, _ Hook, _ int) error {
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("none", "/sys/kernel/btf", "tmpfs", 0, ""); err != nil {
		return err
	}
	_, err := Open(lab).Trace(ctx, TraceOptions{})
	if !errors.Is(err, ErrNoBTF) || !strings.Contains(err.Error(), "CONFIG_DEBUG_INFO_BTF=y") {
		return fmt.Errorf("trace: %v", err)
	}
	if _, err := Open(lab).AttachCount(ctx, Hooks{}); err != nil {
		return fmt.Errorf("count: %w", err)
	}
	for _, f := range Probe() {
		if f.Name == "BTF" && f.OK {
			return errors.New("probe finds BTF")
		}
	}
	return Clean(lab.Dir)
}

// TestOldKernel falls back to clsact. The kernel is this one; its refusal is real,
// but made by seccomp.
func TestOldKernel(t *testing.T) {
	lab := up(t, preset(t, "pair"))
	runChild(t, command("old", lab, HookNone, 0))
	checkStacks(t, lab, countedBy(Hooks{TC: Clsact}))
	ping(t, lab, "172.16.16.20")
	if c := counts(t, lab)["right:right-veth in"]; c.Passed().Packets == 0 {
		t.Error("nothing was counted")
	}
}

func TestNoBTF(t *testing.T) {
	lab := up(t, preset(t, "pair"))
	cmd := command("no-btf", lab, HookNone, 0)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	runChild(t, cmd)
	checkStacks(t, lab, nothing)
}

// TestCountKilled kills an AttachCount before each hop. Clean then leaves nothing,
// also on the host's own device; and without one, AttachCount starts afresh.
func TestCountKilled(t *testing.T) {
	uplink(t)
	for _, hook := range []Hook{TCX, Clsact} {
		t.Run(hook.String(), func(t *testing.T) {
			needs(t, hook)
			lab := up(t, preset(t, "nat-uplink"))
			before := eth0(t)
			hops := len(lab.Topology.Hops(false))
			for n := range hops {
				killChild(t, command("count", lab, hook, n))
				if as, err := Open(lab).Attachments(); err != nil || len(as) > 0 {
					t.Errorf("killed at hop %d: attachments %v, error %v", n, as, err)
				}
				if n%2 == 0 {
					detachAll(t, lab)
					checkStacks(t, lab, nothing)
				}
			}
			attachCount(t, lab, Hooks{TC: hook})
			checkStacks(t, lab, countedBy(Hooks{TC: hook}))
			down(t, lab)
			if now := eth0(t); now != before {
				t.Errorf("eth0 is not as it was:\n%s", now)
			}
		})
	}
}

// TestTraceKilled kills traces; the next one removes what they left, and nothing
// of one that lives.
func TestTraceKilled(t *testing.T) {
	needs(t, TCX)
	uplink(t)
	lab := up(t, preset(t, "nat-uplink"))
	before := eth0(t)
	at := findHop(t, lab, "host:eth0 out", 0)
	check := func(when string, want ...string) {
		t.Helper()
		if got := strings.Join(stack(t, lab, at), ", "); got != strings.Join(want, ", ") {
			t.Errorf("%s: programs at %s are %s", when, at, got)
		}
	}
	killChild(t, command("trace", lab, TCX, 0))
	check("killed by tcx")
	killChild(t, command("trace", lab, Clsact, 0))
	check("killed by clsact", "clsact trace_tc")
	live := startTrace(t, lab, TraceOptions{Hook: Clsact})
	check("the next", "clsact trace_tc")
	killChild(t, command("trace", lab, Clsact, 0))
	check("two", "clsact trace_tc", "clsact trace_tc")
	other := startTrace(t, lab, TraceOptions{})
	check("the next by tcx", "tcx trace_tc", "clsact trace_tc")
	if err := errors.Join(live.Close(), live.Close()); err != nil {
		t.Error(err)
	}
	check("closed", "tcx trace_tc")
	if err := other.Close(); err != nil {
		t.Error(err)
	}
	killChild(t, command("trace", lab, Clsact, 0))
	detachAll(t, lab)
	check("cleaned")
	if now := eth0(t); now != before {
		t.Errorf("eth0 is not as it was:\n%s", now)
	}
}
