package loader

import (
	"errors"
	"io/fs"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/nsbpf/nsbpf/internal/hop"
)

// chain is what is known of the tcx programs at a hop.
type chain struct {
	counted bool // the first of them is the lab's count program, or stands in its place
	own     bool // it is the only one
}

// survey looks at the tcx programs of each tc place. Without tcx there are none.
func (l *Loader) survey(ps *places) error {
	byID := make(map[hop.ID]*place, len(ps.all))
	for i := range ps.all {
		byID[ps.all[i].ID] = &ps.all[i]
	}
	return ps.each(func(at place) (err error) {
		if at.Layer == hop.TC {
			byID[at.ID].chain, err = l.chainOf(at)
		}
		return err
	})
}

// chainOf is for a caller in at's namespace.
func (l *Loader) chainOf(at place) (chain, error) {
	ln, err := link.LoadPinnedLink(l.pin(countPin(at.ID)), nil)
	if errors.Is(err, fs.ErrNotExist) {
		return chain{}, nil
	}
	if err != nil {
		return chain{}, err
	}
	defer ln.Close()
	info, err := ln.Info()
	if err != nil {
		return chain{}, err
	}
	found, err := link.QueryPrograms(link.QueryOptions{Target: at.ifindex, Attach: tcxSide(at)})
	if errors.Is(err, ebpf.ErrNotSupported) {
		return chain{}, nil
	}
	if err != nil {
		return chain{}, err
	}
	first := len(found.Programs) > 0 && found.Programs[0].ID == info.Program
	return chain{counted: first, own: first && len(found.Programs) == 1}, nil
}
