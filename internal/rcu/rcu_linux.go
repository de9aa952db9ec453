// Package rcu makes the kernel wait less while programs are attached.
//
// Attaching or detaching a tcx program waits for an RCU grace period, some 12 ms
// at 250 Hz, and does so under the rtnl lock: fourteen hops take 0.2 s, whatever
// the number of threads. Expedited grace periods take about 0.1 ms. The switch is
// the machine's own, so it is on for as short as can be, and what it was is
// written down before (Documentation/ABI/testing/sysfs-kernel-rcu in the kernel).
package rcu

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

const (
	knob = "/sys/kernel/rcu_expedited"
	// record says who turned the knob from 0 to 1: a pid. It stands beside the
	// labs' directory, because it is still there when the last lab is gone.
	record = "/run/nsbpf.rcu_expedited"
)

// Expedite makes grace periods short until the returned function is called.
// Where that cannot be, or somebody else did it, it does nothing. Calls may nest
// and processes may overlap: the first to come restores, and the rest is slow.
func Expedite() (restore func()) {
	nothing := func() {}
	if err := Recover(); err != nil {
		return nothing
	}
	if now, err := os.ReadFile(knob); err != nil || strings.TrimSpace(string(now)) != "0" {
		return nothing
	}
	f, err := os.OpenFile(record, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nothing
	}
	_, err = fmt.Fprintln(f, os.Getpid())
	if err := errors.Join(err, f.Close(), os.WriteFile(knob, []byte("1"), 0)); err != nil {
		_ = os.Remove(record)
		return nothing
	}
	return func() { _ = restoreKnob() }
}

func restoreKnob() error {
	if err := os.WriteFile(knob, []byte("0"), 0); err != nil {
		return fmt.Errorf("restoring %s: %w", knob, err)
	}
	return os.Remove(record)
}

// Recover restores what a process that was killed left behind.
func Recover() error {
	b, err := os.ReadFile(record)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err == nil {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err == nil {
			return nil // at work
		}
	}
	return restoreKnob()
}
