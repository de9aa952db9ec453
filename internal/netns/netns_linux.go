// Package netns makes, opens, enters and removes named network namespaces, in
// the way and in the place of `ip netns`.
//
// It is the only package that moves threads between namespaces.
package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/nsbpf/nsbpf/internal/rtnl"
)

// Dir is where named namespaces are mounted, as for `ip netns`.
const Dir = "/run/netns"

// Loopback is the index of a namespace's first device, which is always lo.
const Loopback = 1

// ErrNotMounted says that a name below [Dir] is a file without a namespace, as
// a process that died between making the two leaves it.
var ErrNotMounted = errors.New("no namespace is mounted there")

// Open returns the namespace of that name. The error wraps [fs.ErrNotExist] or
// [ErrNotMounted].
func Open(name string) (*os.File, error) {
	f, err := os.Open(path(name))
	if err != nil {
		return nil, fmt.Errorf("open namespace %q: %w", name, err)
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		f.Close()
		return nil, fmt.Errorf("open namespace %q: %w", name, err)
	}
	if st.Type != unix.NSFS_MAGIC {
		f.Close()
		return nil, fmt.Errorf("open namespace %q: %w", name, ErrNotMounted)
	}
	return f, nil
}

// OpenSelf returns the namespace of the caller; inside [Do], the one entered.
func OpenSelf() (*os.File, error) {
	f, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("open own network namespace: %w", err)
	}
	return f, nil
}

// Exists reports whether the name is taken, by a namespace or a mere file.
func Exists(name string) bool {
	_, err := os.Lstat(path(name))
	return err == nil
}

// ID returns the inode number that tells ns from all others that live now.
func ID(ns *os.File) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(ns.Fd()), &st); err != nil {
		return 0, fmt.Errorf("identify namespace: %w", err)
	}
	return st.Ino, nil
}

// Create makes a namespace, gives its loopback device the alias mark, runs
// inside in it and then mounts it at its name: whoever sees the name sees the
// mark and what inside did. [Prepare] must have run. The error wraps
// [fs.ErrExist] if the name is taken; nothing is left of a Create that failed.
func Create(name, mark string, inside func() error) (*os.File, error) {
	var ns *os.File
	err := onThread(func() error {
		home, err := OpenSelf()
		if err != nil {
			return err
		}
		defer home.Close()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		ns, err = furnish(name, mark, inside)
		return errors.Join(err, restore(home))
	})
	if err != nil {
		if ns != nil {
			ns.Close()
		}
		return nil, fmt.Errorf("create namespace %q: %w", name, err)
	}
	return ns, nil
}

// furnish marks and mounts the namespace that the calling thread just made.
func furnish(name, mark string, inside func() error) (*os.File, error) {
	if err := setMark(mark); err != nil {
		return nil, err
	}
	if err := inside(); err != nil {
		return nil, err
	}
	ns, err := OpenSelf()
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path(name), os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0)
	if err != nil {
		ns.Close()
		return nil, err
	}
	f.Close()
	self := fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid())
	if err := unix.Mount(self, path(name), "", unix.MS_BIND, ""); err != nil {
		ns.Close()
		return nil, errors.Join(fmt.Errorf("mount on %s: %w", path(name), err), os.Remove(path(name)))
	}
	return ns, nil
}

// Remove takes the name away. The namespace lives on while a process is in it
// or a descriptor is open; see [Holders]. A name that is gone is no error.
func Remove(name string) error {
	err := unix.Unmount(path(name), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount namespace %q: %w", name, err)
	}
	if err := os.Remove(path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove namespace %q: %w", name, err)
	}
	return nil
}

func setMark(mark string) error {
	c, err := rtnl.Dial(nil)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.SetAlias(Loopback, mark)
}

// Do runs fn in ns and returns its error; a nil ns is the caller's own.
//
// fn runs on a thread of its own, which moves back afterwards or, if it cannot,
// dies. fn must not start goroutines that rely on ns.
func Do(ns *os.File, fn func() error) error {
	if ns == nil {
		return fn()
	}
	return onThread(func() error {
		home, err := OpenSelf()
		if err != nil {
			return err
		}
		defer home.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace: %w", err)
		}
		return errors.Join(fn(), restore(home))
	})
}

// strayError is the error of a thread that is not as it was and has to die.
type strayError struct{ error }

func (e strayError) Unwrap() error { return e.error }

func restore(home *os.File) error {
	if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
		return strayError{fmt.Errorf("return to own network namespace: %w", err)}
	}
	return nil
}

// onThread runs fn on a locked thread that is not the process's main one. The
// thread is given back unless fn's error is a [strayError]. The main thread is
// never used because it cannot die: it would stay in fn's namespace, and with
// it /proc/PID/ns/net.
func onThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		var err error
		if unix.Gettid() == unix.Getpid() {
			err = onThread(fn) // cannot land here again while we hold it
			runtime.UnlockOSThread()
		} else if err = fn(); !errors.As(err, new(strayError)) {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

func path(name string) string { return filepath.Join(Dir, name) }
