// Package rcu makes the kernel wait less while programs are attached.
//
// Attaching or detaching a tcx program waits for an RCU grace period, some 12 ms
// at 250 Hz, and does so under the rtnl lock: fourteen hops take 0.2 s, whatever
// the number of threads. Expedited grace periods take about 0.1 ms. The switch is
// the machine's own, so it is on for as short as can be, and that it was turned
// is written down before (Documentation/ABI/testing/sysfs-kernel-rcu in the kernel).
package rcu

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	knob = "/sys/kernel/rcu_expedited"
	// record, once it has content, says that the knob was turned from 0 to 1. It
	// is locked by who did it, for as long as he lives. It stands beside the labs'
	// directory, because it is still there when the last lab is gone.
	record = "/run/nsbpf.rcu_expedited"
)

// Expedite makes grace periods short until the returned function is called.
// Where that cannot be, or somebody else did it, it does nothing. Calls may nest
// and processes may overlap: the first to come restores, and the rest is slow.
// It restores also what a process that was killed left turned.
func Expedite() (restore func()) {
	nothing := func() {}
	f, err := lockRecord()
	if err != nil {
		return nothing
	}
	if err := turn(f); err != nil {
		_ = os.Remove(record)
		f.Close()
		return nothing
	}
	return func() { turnBack(f) }
}

// lockRecord returns the record, locked. The error wraps EWOULDBLOCK if somebody
// else has the lock.
func lockRecord() (*os.File, error) {
	f, err := os.OpenFile(record, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil && !isCurrent(f) {
		err = unix.EWOULDBLOCK // its last holder removed it meanwhile
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func isCurrent(f *os.File) bool {
	ours, err := f.Stat()
	if err != nil {
		return false
	}
	now, err := os.Stat(record)
	return err == nil && os.SameFile(ours, now)
}

// turn turns the knob, unless it is turned and not by us. One that a process that
// was killed turned is ours to restore.
func turn(f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if st.Size() == 0 {
		now, err := os.ReadFile(knob)
		if err != nil {
			return err
		}
		if strings.TrimSpace(string(now)) != "0" {
			return errors.New("somebody else's")
		}
		if _, err := f.WriteString("1\n"); err != nil {
			return err
		}
	}
	return os.WriteFile(knob, []byte("1"), 0)
}

// turnBack restores the knob and gives up the record, or, if it cannot, leaves
// that to the next one.
func turnBack(f *os.File) {
	if os.WriteFile(knob, []byte("0"), 0) == nil {
		_ = os.Remove(record)
	}
	f.Close()
}
