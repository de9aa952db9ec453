package topology

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/nsbpf/nsbpf/examples"
	"github.com/nsbpf/nsbpf/internal/nearest"
	"github.com/nsbpf/nsbpf/internal/source"
)

// Parse reads a topology file. The file name is that of the messages, and the
// lab's name is its base without extension unless the file gives one.
//
// Names that the file leaves out are made: the end of a link at a node is eth0,
// eth1, … in order of the links; at a bridge it is OTHER-BRIDGE-veth, and
// OTHER-host-veth at the node host, whose own eth0 is not ours. Those that the
// kernel would find too long are shortened by a hash.
//
// The error joins one [*Error] for each mistake, in the order of the file. See
// [Explain]. A valid Topology has names that a shell needs no quotes for.
func Parse(file string, src []byte) (*Topology, error) {
	s, root := source.Read(file, src, "one topology")
	if s.Wrong() {
		return nil, s.Err()
	}
	base := filepath.Base(file)
	d := declaration{File: s, t: &Topology{Name: strings.TrimSuffix(base, filepath.Ext(base))}}
	if root != nil {
		d.read(root)
	}
	if d.expects {
		d.t.Expect = &Expect{File: file, Source: string(src)}
	}
	nameDevices(d.t)
	validate(d.t, s.Mistake)
	if !s.Wrong() {
		validateWhole(d.t, s.Mistake)
	}
	if s.Wrong() {
		return nil, s.Err()
	}
	return d.t, nil
}

// Load parses what arg names: a preset, or a file if arg has a slash or dot or
// is no preset's name.
func Load(arg string) (*Topology, error) {
	if !strings.ContainsAny(arg, "/.") {
		src, err := fs.ReadFile(examples.Presets, arg+".yaml")
		if err == nil {
			return Parse(path.Join("examples", arg+".yaml"), src)
		}
	}
	src, err := os.ReadFile(arg)
	if errors.Is(err, fs.ErrNotExist) && !strings.ContainsAny(arg, "/.") {
		hint := nearest.Hint(arg, Presets())
		if hint != "" {
			hint += " "
		}
		return nil, fmt.Errorf("unknown preset %q (%spresets are %s; a file is named by its path, such as ./%s.yaml)",
			arg, hint, strings.Join(Presets(), ", "), labLike(arg))
	}
	if err != nil {
		return nil, fmt.Errorf("reading a topology: %w (give the path of a file, or a preset: %s)", err, strings.Join(Presets(), ", "))
	}
	return Parse(arg, src)
}

// Presets returns the names of the topologies that are part of the binary,
// sorted.
func Presets() []string {
	files, err := fs.Glob(examples.Presets, "*.yaml")
	if err != nil {
		panic(err) // the pattern is a constant
	}
	for i, f := range files {
		files[i] = strings.TrimSuffix(f, ".yaml")
	}
	return files
}
