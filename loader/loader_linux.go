package loader

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/internal/rcu"
	"github.com/nsbpf/nsbpf/topology"
)

// Loader attaches programs to the hops of one running lab. Its methods may not
// be called at the same time; other processes may have Loaders of the lab.
type Loader struct {
	lab     *topology.Lab
	dir     string           // the bpffs
	touched map[touched]bool // what is in the file; nil: not read yet
}

// Open returns a Loader for lab. Nothing is loaded or mounted by it.
func Open(lab *topology.Lab) *Loader {
	return &Loader{lab: lab, dir: filepath.Join(lab.Dir, bpffsDir)}
}

// Clean detaches and unpins all that was attached in the lab whose directory is
// labDir, running or half made, and what belongs to processes that were killed.
// Programs are gone when it returns. Nothing to clean is no error.
func Clean(labDir string) error {
	unlock, err := lock(labDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unlock()
	defer rcu.Expedite()()
	return clean(labDir)
}

// clean is [Clean] for a caller that holds the lock. Records go after what they
// tell of, so that it can be tried again.
func clean(labDir string) error {
	if err := cleanClsact(labDir); err != nil {
		return err
	}
	if err := removeBPFFS(filepath.Join(labDir, bpffsDir)); err != nil {
		return err
	}
	var errs []error
	for _, name := range []string{attachmentsFile, filtersFile} {
		if err := os.Remove(filepath.Join(labDir, name)); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (l *Loader) clean() error {
	l.touched = nil
	return clean(l.lab.Dir)
}

// lock keeps other processes from changing a lab's attachments until the
// returned function is called.
func lock(labDir string) (unlock func() error, err error) {
	d, err := os.Open(labDir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(d.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", labDir, err), d.Close())
	}
	return d.Close, nil
}

// writeFile replaces a file of the lab's directory in one step.
func (l *Loader) writeFile(name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	path := filepath.Join(l.lab.Dir, name)
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// loadCopies loads one copy of prog for each place. Maps in shared are used
// instead of new ones.
func loadCopies(spec *ebpf.CollectionSpec, prog string, ps *places, shared map[string]*ebpf.Map) (*ebpf.Collection, error) {
	copies, err := bpf.Copies(spec, prog, ps.sites())
	if err != nil {
		return nil, err
	}
	for name, m := range shared {
		copies.Maps[name].MaxEntries = m.MaxEntries()
	}
	return load(copies, shared)
}

// load loads spec into the kernel. An error of the verifier is its summary;
// %+v prints the whole log.
func load(spec *ebpf.CollectionSpec, shared map[string]*ebpf.Map) (*ebpf.Collection, error) {
	c, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: shared})
	if err == nil {
		return c, nil
	}
	if _, berr := btf.LoadKernelSpec(); errors.Is(berr, ebpf.ErrNotSupported) || errors.Is(berr, fs.ErrNotExist) {
		return nil, fmt.Errorf("load bpf: %w", ErrNoBTF)
	}
	if errors.Is(err, unix.EPERM) { // EACCES is the verifier's
		return nil, fmt.Errorf("load bpf: %w (needs root, or CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN)", err)
	}
	return nil, fmt.Errorf("load bpf: %w", err)
}

// ErrNoBTF says that the kernel does not describe its types, which tracing
// needs. Counting does not.
var ErrNoBTF = errors.New("this kernel has no BTF at /sys/kernel/btf/vmlinux (tracing needs a kernel built with CONFIG_DEBUG_INFO_BTF=y; counting works without: leave out --trace)")
