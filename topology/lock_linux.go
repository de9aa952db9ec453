package topology

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// lockPoll is how often a lock that somebody holds is tried again: flock(2)
// cannot wait for a context.
const lockPoll = 5 * time.Millisecond

var lockFile = filepath.Join(runDir, ".lock")

// runLock serialises what changes labs.
type runLock struct{ file *os.File }

// lock waits until nobody else changes labs, and makes runDir if need be.
func lock(ctx context.Context) (*runLock, error) {
	tick := time.NewTicker(lockPoll)
	defer tick.Stop()
	for {
		l, err := tryLock()
		if err == nil {
			return l, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for another nsbpf up or down (lock %s): %w", lockFile, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// tryLock returns EWOULDBLOCK if the lock is held, and ErrNotExist if the file
// was removed by its last holder meanwhile.
func tryLock() (*runLock, error) {
	if err := os.MkdirAll(runDir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(lockFile, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	mine, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	now, err := os.Stat(lockFile)
	if err == nil && !os.SameFile(mine, now) {
		err = fs.ErrNotExist
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &runLock{file: f}, nil
}

// unlock lets the next one in. If there is nothing left to remember, the lock's
// file goes, and with it runDir, unless others keep something there.
func (l *runLock) unlock() error {
	_ = os.Remove(ledgerFile + ".new") // of somebody who died, or none
	labs, err := labNames()
	if err == nil && len(labs) == 0 {
		if _, kept := os.Stat(ledgerFile); errors.Is(kept, fs.ErrNotExist) {
			err = os.Remove(lockFile)
			_ = os.Remove(runDir)
		}
	}
	return errors.Join(err, l.file.Close())
}

// locked reports whether somebody changes labs right now.
func locked() bool {
	f, err := os.Open(lockFile)
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}
