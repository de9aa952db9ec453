package loader

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// bpffsDir is the lab's bpffs, below the lab's directory.
const bpffsDir = "bpf"

// mountBPFFS makes dir a bpffs unless it is one.
func mountBPFFS(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	mounted, err := isBPFFS(dir)
	if err != nil || mounted {
		return err
	}
	err = unix.Mount("bpf", dir, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_RELATIME, "mode=0700")
	if err != nil {
		return fmt.Errorf("mounting a bpffs on %s: %w", dir, err)
	}
	return nil
}

func isBPFFS(dir string) (bool, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return false, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return int64(st.Type) == unix.BPF_FS_MAGIC, nil
}

// kernelsOwn ends the names of files that the kernel puts into every bpffs.
const kernelsOwn = ".debug"

// removeBPFFS unpins everything in dir, unmounts and removes it. A process in
// another mount namespace may hold the file system, so that unmounting alone
// would leave the programs attached.
func removeBPFFS(dir string) error {
	mounted, err := isBPFFS(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if mounted {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if filepath.Ext(e.Name()) == kernelsOwn {
				continue
			}
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmounting %s: %w", dir, err)
		}
	}
	return os.Remove(dir)
}
