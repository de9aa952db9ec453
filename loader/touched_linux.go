package loader

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/nsbpf/nsbpf/internal/netns"
)

// touched says that clsact filters of the lab are at a device, or about to be.
// It is written before they are, so that a crash leaves none that Clean does
// not find. Devices are known by index, which a new name does not change.
type touched struct {
	Netns   string `json:"netns"`    // empty: where nsbpf runs
	NetnsID uint64 `json:"netns_id"` // [netns.ID]
	Ifindex int    `json:"ifindex"`
	Qdisc   bool   `json:"qdisc"` // the clsact qdisc is ours, too
}

const touchedFile = "clsact.ndjson"

// touch makes sure that there is a clsact qdisc at at's device and that Clean
// knows of it.
func (l *Loader) touch(c *clsact, at place) error {
	id, err := netns.ID(at.ns)
	if err != nil {
		return err
	}
	t := touched{
		Netns:   l.lab.Topology.Node(at.Node).Netns,
		NetnsID: id,
		Ifindex: at.ifindex,
		Qdisc:   c.kinds[at.ifindex] == "",
	}
	if l.touched == nil {
		all, err := readTouched(l.lab.Dir)
		if err != nil {
			return err
		}
		l.touched = make(map[touched]bool)
		for _, t := range all {
			l.touched[t] = true
		}
	}
	owned := t
	owned.Qdisc = true
	if !l.touched[t] && !l.touched[owned] {
		if err := appendLine(filepath.Join(l.lab.Dir, touchedFile), t); err != nil {
			return err
		}
		l.touched[t] = true
	}
	if c.kinds[at.ifindex] == clsactKind {
		return nil
	}
	if err := c.addQdisc(at.ifindex); err != nil {
		return fmt.Errorf("add clsact qdisc to %s: %w", at.Place(), err)
	}
	return nil
}

func appendLine(file string, v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Close())
}

// readTouched returns what [Loader.touch] wrote; a last line cut short by a crash
// is left out.
func readTouched(labDir string) ([]touched, error) {
	f, err := os.Open(filepath.Join(labDir, touchedFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []touched
	for d := json.NewDecoder(f); ; {
		var t touched
		if err := d.Decode(&t); err != nil {
			return all, nil
		}
		all = append(all, t)
	}
}

// eachTouched calls fn for each namespace that still lives and where the lab has
// touched devices.
func eachTouched(labDir string, fn func(*clsact, []touched) error) error {
	all, err := readTouched(labDir)
	if err != nil {
		return err
	}
	byNS := make(map[uint64][]touched)
	for _, t := range all {
		byNS[t.NetnsID] = append(byNS[t.NetnsID], t)
	}
	var errs []error
	for _, devices := range byNS {
		errs = append(errs, inTouched(devices, fn))
	}
	return errors.Join(errs...)
}

// inTouched calls fn for devices, which are of one namespace.
func inTouched(devices []touched, fn func(*clsact, []touched) error) error {
	ns, err := devices[0].open()
	if err != nil || ns == nil {
		return err
	}
	defer ns.Close()
	c, err := openClsact(ns)
	if err != nil {
		return err
	}
	defer c.Close()
	return fn(c, devices)
}

// open returns the device's namespace, or nil if that is gone. It is an error if
// the caller is on another host than the lab.
func (t touched) open() (*os.File, error) {
	ns, err := netns.OpenSelf()
	if t.Netns != "" {
		ns, err = netns.Open(t.Netns)
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, netns.ErrNotMounted) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	id, err := netns.ID(ns)
	if err == nil && id == t.NetnsID {
		return ns, nil
	}
	ns.Close()
	if err != nil || t.Netns != "" {
		return nil, err // another one has taken the name
	}
	if ps, err := netns.Holders(t.NetnsID); err != nil || len(ps) == 0 {
		return nil, err
	}
	return nil, fmt.Errorf("the lab's host is another network namespace, net:[%d] (run nsbpf in there)", t.NetnsID)
}

// removeFilters removes the lab's clsact filters whose names, after
// [clsactOwner], match.
func removeFilters(labDir string, match func(what string) bool) error {
	ours := ourFilters(labDir, match)
	return eachTouched(labDir, func(c *clsact, _ []touched) error { return c.removeFilters(ours) })
}

func ourFilters(labDir string, match func(what string) bool) func(name string) bool {
	owner := clsactOwner(filepath.Base(labDir))
	return func(name string) bool {
		what, ours := strings.CutPrefix(name, owner)
		return ours && match(what)
	}
}

// cleanClsact removes all the lab's clsact filters, and those of its qdiscs that
// are of no use to others.
func cleanClsact(labDir string) error {
	ours := ourFilters(labDir, func(string) bool { return true })
	err := eachTouched(labDir, func(c *clsact, devices []touched) error {
		errs := []error{c.removeFilters(ours)}
		for _, t := range devices {
			if !t.Qdisc {
				continue
			}
			rest, err := c.removeQdisc(t.Ifindex)
			errs = append(errs, err, bequeath(labDir, t, rest))
		}
		return errors.Join(errs...)
	})
	if err != nil {
		return fmt.Errorf("removing clsact filters: %w", err)
	}
	if err := os.Remove(filepath.Join(labDir, touchedFile)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// bequeath makes the qdisc of t that of another lab that has filters in it, so
// that the last one removes it.
func bequeath(labDir string, t touched, rest []string) error {
	for _, name := range rest {
		words := strings.Split(name, "/")
		if len(words) < 3 || !strings.HasPrefix(name, clsactOwner(words[1])) {
			continue
		}
		err := appendLine(filepath.Join(filepath.Dir(labDir), words[1], touchedFile), t)
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
