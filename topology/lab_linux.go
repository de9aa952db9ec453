package topology

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/nsbpf/nsbpf/internal/netns"
)

// runDir holds what is known of labs: a directory each, the [ledger] and the
// lock.
const runDir = "/run/nsbpf"

var (
	// ErrUp says that a lab of that name is up.
	ErrUp = errors.New("is up")
	// ErrBroken says that there are remains of a lab whose up or down died.
	ErrBroken = errors.New("is broken")
	// ErrNotUp says that there is no lab of that name.
	ErrNotUp = errors.New("is not up")
)

// State is how far a lab has got.
type State string

const (
	StateUp     State = "up"
	StateBroken State = "broken" // its up or down died, or a namespace is gone
	StateBusy   State = "busy"   // an up or down is at work
)

// Lab is a Topology that was brought up.
type Lab struct {
	Name     string
	State    State
	Topology *Topology
	// Dir is the lab's own directory, for what others keep with it. Its entry
	// bpf may be a mount, which must be gone before [Down].
	Dir string
	// Created is when up began.
	Created time.Time

	host uint64 // the namespace that is its host, by netns.ID
}

// record is a Lab as its files have it: the first line of the journal, and, once
// the network works, lab.json.
type record struct {
	Schema   string    `json:"schema"`
	Name     string    `json:"lab"`
	Created  int64     `json:"created_ns"`
	Host     uint64    `json:"host_netns"`
	Topology *Topology `json:"topology"`
}

const recordSchema = "nsbpf.lab/1"

func (r *record) lab(state State) *Lab {
	return &Lab{
		Name:     r.Name,
		State:    state,
		Topology: r.Topology,
		Dir:      labDir(r.Name),
		Created:  time.Unix(0, r.Created),
		host:     r.Host,
	}
}

func (r *record) check() error {
	if r.Schema != recordSchema || r.Topology == nil {
		return fmt.Errorf("schema %q (this nsbpf writes %q; use the one that brought the lab up)", r.Schema, recordSchema)
	}
	return nil
}

func labDir(name string) string { return filepath.Join(runDir, name) }

// Open returns the lab of that name. The error wraps [ErrNotUp] if there is
// none. A lab that is not [StateUp] is returned without error.
func Open(name string) (*Lab, error) {
	if msg, _ := checkLab(name); msg != "" {
		return nil, fmt.Errorf("lab %q %w: the name %s", name, ErrNotUp, msg)
	}
	b, err := os.ReadFile(filepath.Join(labDir(name), "lab.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return openBroken(name)
	} else if err != nil {
		return nil, fmt.Errorf("open lab %q: %w", name, err)
	}
	var r record
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("open lab %q: %w", name, err)
	}
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("open lab %q: %w", name, err)
	}
	lab := r.lab(StateUp)
	for _, n := range lab.Topology.Nodes {
		if n.Netns != "" && !netns.Exists(n.Netns) {
			lab.State = StateBroken
		}
	}
	return lab, nil
}

// openBroken returns a lab that has no lab.json. If its up died before the
// journal had a line, only the name is known.
func openBroken(name string) (*Lab, error) {
	if _, err := os.Stat(labDir(name)); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("lab %q %w", name, ErrNotUp)
	} else if err != nil {
		return nil, fmt.Errorf("open lab %q: %w", name, err)
	}
	state := StateBroken
	if locked() {
		state = StateBusy
	}
	r, _, err := readJournal(name)
	if errors.Is(err, errNoRecord) {
		return &Lab{Name: name, State: state, Topology: &Topology{Name: name}, Dir: labDir(name)}, nil
	} else if err != nil {
		return nil, fmt.Errorf("open lab %q: %w", name, err)
	}
	return r.lab(state), nil
}

// Labs returns all labs, also those that are not [StateUp], by name.
func Labs() ([]*Lab, error) {
	names, err := labNames()
	if err != nil {
		return nil, err
	}
	var labs []*Lab
	var errs []error
	for _, name := range names {
		lab, err := Open(name)
		if err == nil {
			labs = append(labs, lab)
		} else if !errors.Is(err, ErrNotUp) { // taken down meanwhile
			errs = append(errs, err)
		}
	}
	return labs, errors.Join(errs...)
}

// labNames returns the names of the labs' directories.
func labNames() ([]string, error) {
	entries, err := os.ReadDir(runDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("list labs: %w", err)
	}
	entries = slices.DeleteFunc(entries, func(e os.DirEntry) bool { return !e.IsDir() })
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

// Netns opens the namespace of a node. That of a host that was not made is the
// caller's own, and an error if the lab was brought up in another.
func (l *Lab) Netns(node string) (*os.File, error) {
	n := l.Topology.Node(node)
	if n == nil && node != HostNode {
		return nil, fmt.Errorf("lab %q has no node %q", l.Name, node)
	}
	if n != nil && n.Netns != "" {
		return netns.Open(n.Netns)
	}
	self, err := netns.OpenSelf()
	if err != nil {
		return nil, err
	}
	id, err := netns.ID(self)
	if err == nil && l.host != 0 && id != l.host {
		err = fmt.Errorf("lab %q: %w", l.Name, elsewhere(l.host))
	}
	if err != nil {
		return nil, errors.Join(err, self.Close())
	}
	return self, nil
}
