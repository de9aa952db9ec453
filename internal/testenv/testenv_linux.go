// Package testenv gives tests a host to play with: network and mount namespaces
// of their own, an uplink that leads to nobody, and a picture of the host's
// state as outside tools see it.
package testenv

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	// required, set to 1, makes a test fail that would be skipped.
	required = "NSBPF_TEST_ROOT"
	// inside is set in the process that plays the host.
	inside = "NSBPF_TEST_INSIDE"
)

// Main runs the tests of a package as if on a host of their own and returns
// the exit code: if the user is root, in a copy of the process that has new
// network and mount namespaces, with empty /run and loopback up. Call it from
// TestMain.
func Main(m *testing.M) int {
	if os.Geteuid() != 0 {
		return m.Run()
	}
	if os.Getenv(inside) == "" {
		return again()
	}
	if err := play(); err != nil {
		fmt.Fprintln(os.Stderr, "testenv: set up the host of the tests:", err)
		return 1
	}
	return m.Run()
}

// again runs this test binary in new namespaces.
func again() int {
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, "testenv:", err)
		return 1
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
	}
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.Exited():
		return exit.ExitCode()
	}
	fmt.Fprintln(os.Stderr, "testenv: run the tests in namespaces of their own:", err)
	return 1
}

// play furnishes the namespaces that the process was started in.
func play() error {
	if os.Getenv(inside) == "2" {
		return nil // started by a test, on the host that its parent plays
	}
	for _, m := range []struct {
		source, target, kind string
		flags                uintptr
	}{
		{"none", "/", "", unix.MS_REC | unix.MS_PRIVATE},
		{"tmpfs", "/run", "tmpfs", 0},
		{"sysfs", "/sys", "sysfs", 0}, // shows the devices of this namespace
	} {
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("bring up lo: %w: %s", err, out)
	}
	return os.Setenv(inside, "2")
}

// Root skips a test that needs root, or fails it if root is required.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		miss(t, "needs root")
	}
}

// Tool returns the path of an outside program. Without it the test is skipped,
// or fails if root is required.
func Tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		miss(t, "needs %s", name)
	}
	return path
}

func miss(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv(required) == "1" {
		t.Fatalf(format+" ("+required+"=1)", args...)
	}
	t.Skipf(format, args...)
}

// Run runs a program and returns what it wrote to stdout. The test ends if the
// program is missing or fails.
func Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := run(Tool(t, name), args...)
	if err != nil {
		t.Fatalf("%s %q: %v", name, args, err)
	}
	return out
}

func run(path string, args ...string) (string, error) {
	cmd := exec.Command(path, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("%w\n%s%s", err, stdout.Bytes(), stderr.Bytes())
	}
	return stdout.String(), err
}
