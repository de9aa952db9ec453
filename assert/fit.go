package assert

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/nsbpf/nsbpf/internal/nearest"
	"github.com/nsbpf/nsbpf/topology"
)

// Fit completes s for a network that runs as t: it finds the addresses of nodes, by
// address, and the kernel's names of devices. The error joins one [*source.Error]
// for each node, address or hop that is not there.
func (s *Suite) Fit(t *topology.Topology, address func(from, to string, six bool) (netip.Addr, error)) error {
	f := fitting{s, t}
	for i := range s.Assertions {
		a := &s.Assertions[i]
		f.ends(a, address)
		for k := range a.Via {
			f.waypoint(a, k)
		}
		if a.Dropped != nil && a.Dropped.In != "" {
			f.node(a.path+".dropped.in", a.Dropped.In)
		}
	}
	return s.source.Err()
}

type fitting struct {
	*Suite
	t *topology.Topology
}

// node reports whether there is one of that name, and a mistake if not.
func (f *fitting) node(path, name string) bool {
	if f.t.Node(name) != nil {
		return true
	}
	f.source.Mistake(path, fmt.Sprintf("lab %q has no node %q", f.t.Name, name), f.meant(name))
	return false
}

// meant is a hint at what a node's name should have been.
func (f *fitting) meant(name string) string {
	var names []string
	for _, n := range f.t.Nodes {
		names = append(names, n.Name)
	}
	if hint := nearest.Hint(name, names); hint != "" {
		return hint
	}
	return "it has " + strings.Join(names, ", ")
}

// ends looks up From and To.
func (f *fitting) ends(a *Assertion, address func(from, to string, six bool) (netip.Addr, error)) {
	from := f.node(a.path+".from", a.From)
	if _, err := netip.ParseAddr(a.To); err == nil {
		f.check(a)
		return
	}
	if f.t.Node(a.To) == nil {
		f.source.Mistake(a.path+".to", fmt.Sprintf("%q is neither an address nor a node of lab %q", a.To, f.t.Name), f.meant(a.To))
		return
	}
	if !from {
		return
	}
	dst, err := address(a.From, a.To, a.Six)
	if err != nil {
		f.source.Mistake(a.path+".to", err.Error(), "")
		return
	}
	a.Dst = dst
	f.check(a)
}

// check finds what cannot be sent.
func (f *fitting) check(a *Assertion) {
	if err := a.Options(0).Check(); err != nil {
		f.source.Mistake(a.path+".to", err.Error(), "")
	}
}

// waypoint gives one its device's name of the kernel. A device of the real host
// that the lab's name is part of is known by its own name too.
func (f *fitting) waypoint(a *Assertion, k int) {
	w, path := &a.Via[k], fmt.Sprintf("%s.%s[%d]", a.path, a.viaField(), k)
	if !f.node(path, w.Node) {
		return
	}
	var places []string
	hops := f.t.Hops(false)
	for _, h := range hops {
		if h.Node == w.Node && slices.Contains(f.names(h), w.Device) {
			w.Device = h.Device
			return
		}
		if !slices.Contains(places, h.Place()) {
			places = append(places, h.Place())
		}
	}
	place := w.Node + ":" + w.Device
	hint := nearest.Hint(place, places)
	if hint == "" {
		hint = "there are " + strings.Join(places, ", ")
	}
	f.source.Mistake(path, fmt.Sprintf("%q is no hop of lab %q", place, f.t.Name), hint)
}

func (a *Assertion) viaField() string {
	if a.Exactly {
		return "exactly"
	}
	return "via"
}

// names returns what a hop's device is called.
func (f *fitting) names(h topology.Hop) []string {
	full := h.Device
	for _, l := range f.t.Links {
		for _, e := range []topology.End{l.A, l.B} {
			if e.Node == h.Node && e.Device == h.Device && e.AltName != "" {
				full = e.AltName
			}
		}
	}
	for _, b := range f.t.Bridges {
		if b.Node == h.Node && b.Name == h.Device && b.AltName != "" {
			full = b.AltName
		}
	}
	return []string{h.Device, full, strings.TrimPrefix(full, f.t.Name+"-")}
}
