package loader

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// turn is the right to put gates in the places of a lab's programs, which one trace
// at a time has. It is a lock of the bpffs itself, which needs no file and lasts no
// longer than the process.
type turn struct {
	dir   *os.File // nil: nothing is attached in the lab
	taken bool     // by another trace
}

func (l *Loader) takeTurn() (t turn, err error) {
	t.dir, err = os.Open(l.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return turn{}, nil
	}
	if err != nil {
		return turn{}, err
	}
	err = unix.Flock(int(t.dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if t.taken = errors.Is(err, unix.EWOULDBLOCK); t.taken || err == nil {
		return t, nil
	}
	return turn{}, errors.Join(fmt.Errorf("lock %s: %w", l.dir, err), t.dir.Close())
}

func (t *turn) exists() bool { return t.dir != nil }
func (t *turn) mine() bool   { return t.dir != nil && !t.taken }

// Close gives the turn to the next trace.
func (t *turn) Close() error {
	if t.dir == nil {
		return nil
	}
	err := t.dir.Close()
	*t = turn{}
	return err
}
