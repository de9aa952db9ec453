package netns

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Exec replaces the process by argv[0], a path, inside ns, and so returns only on
// error. As `ip netns exec` does, it gives the program a /sys that shows the
// namespace's devices, in a mount namespace of its own.
func Exec(ns *os.File, argv, environ []string) error {
	return onThread(func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace: %w", err)
		}
		if err := ownSysfs(); err != nil {
			return strayError{err}
		}
		return strayError{fmt.Errorf("run %s: %w", argv[0], unix.Exec(argv[0], argv, environ))}
	})
}

// ownSysfs mounts the namespace's sysfs where only this process sees it. What is
// mounted elsewhere later is still seen.
func ownSysfs() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare mounts: %w", err)
	}
	err := unix.Mount("", "/", "none", unix.MS_SLAVE|unix.MS_REC, "")
	if errors.Is(err, unix.EINVAL) {
		return nil // a root that is no mount, as chroot makes: the program sees the old /sys
	}
	if err != nil {
		return fmt.Errorf("make mounts follow: %w", err)
	}
	if err := unix.Unmount("/sys", unix.MNT_DETACH); err != nil {
		return nil // not a mount of its own: the program sees the old one
	}
	if err := unix.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
		return fmt.Errorf("mount sysfs: %w", err)
	}
	return nil
}
