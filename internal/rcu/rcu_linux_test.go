package rcu

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nsbpf/nsbpf/internal/testenv"
)

// expediteAndWait makes the test binary a process that turns the knob, says so
// and waits to be killed.
const expediteAndWait = "NSBPF_TEST_EXPEDITE"

func TestMain(m *testing.M) {
	if os.Getenv(expediteAndWait) != "" {
		Expedite()
		_, _ = os.Stdout.WriteString("turned\n")
		select {}
	}
	os.Exit(testenv.Main(m))
}

// reset makes the machine's knob 0 for the test, and afterwards what it was.
func reset(t *testing.T) {
	t.Helper()
	testenv.Root(t)
	was, err := os.ReadFile(knob)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { set(t, strings.TrimSpace(string(was))) })
	set(t, "0")
}

func set(t *testing.T, value string) {
	t.Helper()
	if err := os.WriteFile(knob, []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}

// check compares the knob, and whether there is a record.
func check(t *testing.T, when, value string, recorded bool) {
	t.Helper()
	now, err := os.ReadFile(knob)
	if err != nil || strings.TrimSpace(string(now)) != value {
		t.Errorf("%s: the knob is %q, want %q, error %v", when, now, value, err)
	}
	if _, err := os.Stat(record); (err == nil) != recorded {
		t.Errorf("%s: record: %v, want one: %t", when, err, recorded)
	}
}

func TestExpedite(t *testing.T) {
	reset(t)
	restore := Expedite()
	check(t, "during", "1", true)
	inner := Expedite()
	inner()
	check(t, "after the inner", "1", true)
	restore()
	check(t, "after", "0", false)
}

// TestExpediteOverlap has a second call outlive the first.
func TestExpediteOverlap(t *testing.T) {
	reset(t)
	first := Expedite()
	second := Expedite()
	first()
	check(t, "after the first", "0", false)
	second()
	check(t, "after the second", "0", false)
}

// TestExpediteForeign leaves alone what somebody else turned.
func TestExpediteForeign(t *testing.T) {
	reset(t)
	set(t, "1")
	restore := Expedite()
	check(t, "during", "1", false)
	restore()
	check(t, "after", "1", false)
}

// TestExpediteOther has another process turn the knob, and be killed. While it
// lives the knob is its own; afterwards the next one restores it.
func TestExpediteOther(t *testing.T) {
	reset(t)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), expediteAndWait+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "turned\n" {
		t.Fatalf("the other process says %q, %v", line, err)
	}
	Expedite()()
	check(t, "while it lives", "1", true)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	check(t, "when it was killed", "1", true)
	restore := Expedite()
	check(t, "during the next", "1", true)
	restore()
	check(t, "after the next", "0", false)
}

// TestExpediteTorn finds a record whose writer died before it turned the knob.
func TestExpediteTorn(t *testing.T) {
	reset(t)
	if err := os.WriteFile(record, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	restore := Expedite()
	check(t, "during", "1", true)
	restore()
	check(t, "after", "0", false)
}

// TestExpediteReadOnly does nothing where the knob cannot be turned.
func TestExpediteReadOnly(t *testing.T) {
	reset(t)
	remount := func(flags uintptr) {
		t.Helper()
		if err := unix.Mount("", "/sys", "", unix.MS_REMOUNT|unix.MS_BIND|flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	remount(unix.MS_RDONLY)
	t.Cleanup(func() { remount(0) })
	restore := Expedite()
	check(t, "during", "0", false)
	restore()
	check(t, "after", "0", false)
}
