package loader

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/internal/rcu"
)

// guest is one program's copies at tc hops of a lab, before all others, for as
// long as the process lives. The kernel removes what a process that was killed
// had at tcx; the next guest of the same word removes its clsact filters.
type guest struct {
	coll   *ebpf.Collection
	labDir string
	word   string // names its clsact filters among those of the lab
	links  []link.Link
	clsact bool // it stands at clsact filters, too
}

// attach puts the copies of prog on ps. On an error the caller detaches those
// that are attached.
func (g *guest) attach(ctx context.Context, l *Loader, ps *places, prog string, hook Hook) error {
	g.labDir = l.lab.Dir
	if err := removeFilters(g.labDir, g.isDead); err != nil {
		return err
	}
	if len(ps.all) == 0 {
		return nil
	}
	defer rcu.Expedite()()
	tc := tcAttacher{loader: l, want: hook, prio: prioTrace, what: g.what()}
	defer tc.Close()
	return ps.each(func(at place) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		ln, used, err := tc.attach(g.coll.Programs[bpf.CopyName(prog, at.ID)], at, link.Head())
		if err != nil {
			return err
		}
		if used == Clsact {
			g.clsact = true
		} else {
			g.links = append(g.links, ln)
		}
		return nil
	})
}

// what is the name of its clsact filters: the word and who removes them.
func (g *guest) what() string { return g.word + "/" + strconv.Itoa(os.Getpid()) }

// isDead reports whether a clsact filter is of the same word and of a process
// that died without removing it.
func (g *guest) isDead(what string) bool {
	pid, ok := strings.CutPrefix(what, g.word+"/")
	if !ok {
		return false
	}
	_, err := os.Stat(filepath.Join("/proc", pid))
	return errors.Is(err, fs.ErrNotExist)
}

// Detach stops the programs; their maps can still be read.
func (g *guest) Detach() error {
	if len(g.links) == 0 && !g.clsact {
		return nil
	}
	defer rcu.Expedite()()
	var errs []error
	for _, ln := range g.links {
		errs = append(errs, ln.Close())
	}
	g.links = nil
	if g.clsact {
		own := g.what()
		errs = append(errs, removeFilters(g.labDir, func(what string) bool { return what == own }))
		g.clsact = false
	}
	return errors.Join(errs...)
}

// Close detaches the programs and frees all.
func (g *guest) Close() error {
	err := g.Detach()
	g.free()
	return err
}

// free is the rest of Close for detached programs.
func (g *guest) free() {
	if g.coll != nil {
		g.coll.Close()
		g.coll = nil
	}
}
