package netns

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// DirState says how much of [Dir] there is.
type DirState struct {
	Exists  bool
	Mounted bool // is a mount of its own
}

// StatDir returns the state of [Dir].
func StatDir() (DirState, error) {
	if _, err := os.Lstat(Dir); errors.Is(err, fs.ErrNotExist) {
		return DirState{}, nil
	} else if err != nil {
		return DirState{}, err
	}
	mounted, err := MountPoint(Dir)
	return DirState{Exists: true, Mounted: mounted}, err
}

// Prepare makes [Dir] a shared mount of itself, as `ip netns add` does before
// its first namespace. Without that, mount namespaces made before a later
// `ip netns add` would keep ours busy.
func Prepare() error {
	if err := os.MkdirAll(Dir, 0o755); err != nil {
		return fmt.Errorf("make directory of namespaces: %w", err)
	}
	share := func() error { return unix.Mount("", Dir, "none", unix.MS_SHARED|unix.MS_REC, "") }
	err := share()
	if errors.Is(err, unix.EINVAL) {
		if err = unix.Mount(Dir, Dir, "none", unix.MS_BIND|unix.MS_REC, ""); err == nil {
			err = share()
		}
	}
	if err != nil {
		return fmt.Errorf("mount %s on itself: %w", Dir, err)
	}
	return nil
}

// Restore takes [Dir] back to the state that was, if nothing is left in it.
func Restore(was DirState) error {
	now, err := StatDir()
	if err != nil || !now.Exists {
		return err
	}
	entries, err := os.ReadDir(Dir)
	if err != nil || len(entries) > 0 {
		return err
	}
	if now.Mounted && !was.Mounted {
		if err := unix.Unmount(Dir, 0); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("unmount %s: %w", Dir, err)
		} else if err != nil {
			return nil // somebody is making a namespace right now
		}
	}
	if !was.Exists {
		// Somebody else's mount or new file below is a reason to stay.
		if err := os.Remove(Dir); err != nil && !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOTEMPTY) {
			return err
		}
	}
	return nil
}

// MountPoint reports whether something is mounted on dir; a bind of dir on
// itself, which has the same device number, counts.
func MountPoint(dir string) (bool, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, dir, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, 0, &st)
	if err != nil {
		return false, fmt.Errorf("stat %s: %w", dir, err)
	}
	if st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT == 0 {
		return false, fmt.Errorf("stat %s: %w (needs Linux 5.8)", dir, unix.ENOTSUP)
	}
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}

// Process is one that lives in a namespace.
type Process struct {
	PID  int
	Comm string
	NS   uint64 // [ID] of its namespace
}

// String returns "comm (pid 12)".
func (p Process) String() string { return fmt.Sprintf("%s (pid %d)", p.Comm, p.PID) }

// Holders returns the processes whose namespace is one of ids, by number.
func Holders(ids ...uint64) ([]Process, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var ps []Process
	for _, dir := range dirs {
		var st unix.Stat_t
		if unix.Stat(filepath.Join(dir, "ns/net"), &st) != nil {
			continue // ended meanwhile, or not ours to see
		}
		for _, id := range ids {
			if st.Ino != id {
				continue
			}
			pid, _ := strconv.Atoi(filepath.Base(dir))
			comm, _ := os.ReadFile(filepath.Join(dir, "comm"))
			ps = append(ps, Process{PID: pid, Comm: string(bytes.TrimSpace(comm)), NS: id})
		}
	}
	return ps, nil
}
