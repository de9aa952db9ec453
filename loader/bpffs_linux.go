package loader

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/nsbpf/nsbpf/internal/hop"
)

// bpffsDir is the lab's bpffs, below the lab's directory.
const bpffsDir = "bpf"

// linkPin begins the names of links in the bpffs; the rest are maps.
const linkPin = "link-"

func countPin(id hop.ID) string { return fmt.Sprintf(linkPin+"count-%d", id) }
func filterPin(id int) string   { return fmt.Sprintf(linkPin+"filter-%d", id) }
func outcomesPin(id int) string { return fmt.Sprintf("outcomes-%d", id) }

func (l *Loader) pin(name string) string { return filepath.Join(l.dir, name) }

// pinLink pins a link and lets go of the descriptor. A nil link is a clsact
// filter, which the qdisc holds.
func (l *Loader) pinLink(ln link.Link, name string) error {
	if ln == nil {
		return nil
	}
	if err := ln.Pin(l.pin(name)); err != nil {
		return errors.Join(fmt.Errorf("pinning %s: %w", name, err), ln.Close())
	}
	return ln.Close()
}

// unpin removes a pin of [Loader.pin], and detaches it if it is a link's: the
// kernel detaches a link that was merely unpinned later, from a work queue
// (bpf_link_put in kernel/bpf/syscall.c). None there is no error.
func unpin(file string) error {
	var errs []error
	if strings.HasPrefix(filepath.Base(file), linkPin) {
		if ln, err := link.LoadPinnedLink(file, nil); err == nil {
			errs = append(errs, ln.Detach(), ln.Close())
		} else if !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if err := os.Remove(file); !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// openPinned returns a link and the program that is attached by it. The error wraps
// [fs.ErrNotExist] if there is none of that name.
func (l *Loader) openPinned(name string) (link.Link, *ebpf.Program, error) {
	ln, err := link.LoadPinnedLink(l.pin(name), nil)
	if err != nil {
		return nil, nil, err
	}
	p, err := programOf(ln)
	if err != nil {
		return nil, nil, errors.Join(err, ln.Close())
	}
	return ln, p, nil
}

func programOf(ln link.Link) (*ebpf.Program, error) {
	info, err := ln.Info()
	if err != nil {
		return nil, err
	}
	return ebpf.NewProgramFromID(info.Program)
}

// openOwn returns a link by which p is attached, or nil: the lab's programs may
// have been removed, and made anew, by other processes.
func (l *Loader) openOwn(name string, p *ebpf.Program) (link.Link, error) {
	ln, now, err := l.openPinned(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer now.Close()
	if same, err := isSame(now, p); err != nil || !same {
		return nil, errors.Join(err, ln.Close())
	}
	return ln, nil
}

func isSame(a, b *ebpf.Program) (bool, error) {
	infoA, errA := a.Info()
	infoB, errB := b.Info()
	if err := errors.Join(errA, errB); err != nil {
		return false, err
	}
	idA, okA := infoA.ID()
	idB, okB := infoB.ID()
	return okA && okB && idA == idB, nil
}

// isNamed reports whether p is a copy of a program of package bpf.
func isNamed(p *ebpf.Program, prog string) (bool, error) {
	info, err := p.Info()
	if err != nil {
		return false, err
	}
	return info.Name == prog, nil
}

// update makes p what is attached by a link, unless its device is gone.
func update(ln link.Link, p *ebpf.Program) error {
	if err := ln.Update(p); !errors.Is(err, unix.ENOLINK) {
		return err
	}
	return nil
}

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
			if err := unpin(filepath.Join(dir, e.Name())); err != nil {
				return fmt.Errorf("unpinning %s: %w", e.Name(), err)
			}
		}
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmounting %s: %w", dir, err)
		}
	}
	return os.Remove(dir)
}
