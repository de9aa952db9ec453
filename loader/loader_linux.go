package loader

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/topology"
)

// Loader attaches programs to the hops of one running lab.
type Loader struct {
	lab *topology.Lab
	dir string // the bpffs
}

// Open returns a Loader for lab. Nothing is loaded or mounted by it.
func Open(lab *topology.Lab) *Loader {
	return &Loader{lab: lab, dir: filepath.Join(lab.Dir, bpffsDir)}
}

// Clean detaches and unpins all that was attached in the lab whose directory is
// labDir, running or half made. Nothing to clean is no error.
func Clean(labDir string) error {
	return errors.Join(cleanQdiscs(labDir), removeBPFFS(filepath.Join(labDir, bpffsDir)))
}

// Attachment is a program on a hop.
type Attachment struct {
	Hop  hop.Hop `json:"hop"`
	Hook Hook    `json:"hook"`
}

const attachmentsFile = "attachments.json"

// Attachments returns the hops that have counters of their own, in order of hop
// ID: those of the count programs, and those where only an XDP filter stands.
// There are none if AttachCount was not called.
func (l *Loader) Attachments() ([]Attachment, error) {
	as, err := l.countAttachments()
	if err != nil {
		return nil, err
	}
	filters, err := l.Filters()
	if err != nil {
		return nil, err
	}
	for _, f := range filters {
		counted := slices.ContainsFunc(as, func(a Attachment) bool { return a.Hop.ID == f.Hop.ID })
		if !counted {
			as = append(as, Attachment{Hop: f.Hop, Hook: f.Hook})
		}
	}
	slices.SortFunc(as, func(a, b Attachment) int { return cmp.Compare(a.Hop.ID, b.Hop.ID) })
	return as, nil
}

func (l *Loader) countAttachments() ([]Attachment, error) {
	b, err := os.ReadFile(filepath.Join(l.lab.Dir, attachmentsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var as []Attachment
	if err := json.Unmarshal(b, &as); err != nil {
		return nil, fmt.Errorf("reading %s: %w", attachmentsFile, err)
	}
	return as, nil
}

// lock keeps other processes from changing the lab's attachments until the
// returned function is called.
func (l *Loader) lock() (unlock func() error, err error) {
	d, err := os.Open(l.lab.Dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(d.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(err, d.Close())
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

// Counts returns the lab's counters; the caller closes them. The error wraps
// [fs.ErrNotExist] if nothing counts in this lab.
func (l *Loader) Counts() (*ebpf.Map, error) {
	m, err := ebpf.LoadPinnedMap(l.pin(bpf.MapCounts), &ebpf.LoadPinOptions{ReadOnly: true})
	if err != nil {
		return nil, fmt.Errorf("opening the counters of lab %q: %w", l.lab.Name, err)
	}
	return m, nil
}

func (l *Loader) pin(name string) string { return filepath.Join(l.dir, name) }

// load loads spec into the kernel. An error of the verifier is its summary;
// %+v prints the whole log.
func load(spec *ebpf.CollectionSpec, shared map[string]*ebpf.Map) (*ebpf.Collection, error) {
	c, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: shared})
	if err == nil {
		return c, nil
	}
	if _, berr := btf.LoadKernelSpec(); errors.Is(berr, ebpf.ErrNotSupported) || errors.Is(berr, fs.ErrNotExist) {
		return nil, fmt.Errorf("load bpf: %w: %w", ErrNoBTF, err)
	}
	if errors.Is(err, os.ErrPermission) {
		return nil, fmt.Errorf("load bpf: %w (needs root, or CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN)", err)
	}
	return nil, fmt.Errorf("load bpf: %w", err)
}

// ErrNoBTF says that the kernel does not describe its types, which tracing
// needs. Counting does not.
var ErrNoBTF = errors.New("this kernel has no BTF at /sys/kernel/btf/vmlinux (tracing needs a kernel built with CONFIG_DEBUG_INFO_BTF=y; counting works without: leave out --trace)")
