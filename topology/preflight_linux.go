package topology

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"

	"github.com/nsbpf/nsbpf/internal/netns"
	"github.com/nsbpf/nsbpf/internal/rtnl"
)

// CollisionError lists what a lab would make and what is there already.
type CollisionError struct {
	Lab        string
	Collisions []string // each says what and, for networks, with what
}

func (e *CollisionError) Error() string {
	return fmt.Sprintf("lab %q would collide with what is there: %s (use --name for other names, --isolated to leave the host alone)",
		e.Lab, strings.Join(e.Collisions, "; "))
}

// host is what of the namespace nsbpf runs in can collide with a plan.
type host struct {
	names  map[string]bool // of devices, with altnames
	device map[int]string
	addrs  []rtnl.Addr
	routes []rtnl.Route
	tables []*nftables.Table
}

// preflight returns a [*CollisionError] with all that p would collide with.
func (k *kernel) preflight(p Plan) error {
	h, err := k.look()
	if err != nil {
		return err
	}
	var all []string
	for _, s := range p {
		for _, c := range h.collisions(s) {
			if !slices.Contains(all, c) {
				all = append(all, c)
			}
		}
	}
	if all == nil {
		return nil
	}
	return &CollisionError{Lab: k.lab, Collisions: all}
}

func (k *kernel) look() (*host, error) {
	conn := k.spaces[""].conn
	links, err := conn.Links()
	if err != nil {
		return nil, err
	}
	h := &host{names: map[string]bool{}, device: map[int]string{}}
	for _, l := range links {
		h.device[l.Index] = l.Name
		for _, n := range append(l.AltNames, l.Name) {
			h.names[n] = true
		}
	}
	if h.addrs, err = conn.Addrs(); err != nil {
		return nil, err
	}
	if h.routes, err = conn.Routes(); err != nil {
		return nil, err
	}
	nft, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	if h.tables, err = nft.ListTables(); err != nil {
		return nil, fmt.Errorf("list nft tables: %w", err)
	}
	return h, nil
}

// collisions says what s would collide with.
func (h *host) collisions(s Step) []string {
	switch s := s.(type) {
	case AddNetns:
		if netns.Exists(s.Netns) {
			return []string{fmt.Sprintf("namespace %q", s.Netns)}
		}
	case AddBridge:
		return h.taken(VethEnd{Netns: s.Netns, Name: s.Name, AltName: s.AltName})
	case AddVeth:
		return append(h.taken(s.A), h.taken(s.B)...)
	case AddAddr:
		if s.Netns == "" {
			return h.overlaps(s.Addr)
		}
	case AddRoute:
		same := func(r rtnl.Route) bool { return r.Dst == s.Dst.Masked() }
		if s.Netns == "" && slices.ContainsFunc(h.routes, same) {
			return []string{fmt.Sprintf("route %s", s.Dst)}
		}
	case AddMasquerade:
		same := func(t *nftables.Table) bool { return t.Name == s.Table }
		if s.Netns == "" && slices.ContainsFunc(h.tables, same) {
			return []string{fmt.Sprintf("nft table %q", s.Table)}
		}
	}
	return nil
}

// taken returns which names of a device are taken.
func (h *host) taken(e VethEnd) (names []string) {
	for _, n := range []string{e.Name, e.AltName} {
		if e.Netns == "" && h.names[n] {
			names = append(names, fmt.Sprintf("device %q", n))
		}
	}
	return names
}

// overlaps says which of the host's networks share addresses with that of p.
// Default routes share addresses with all and are no matter.
func (h *host) overlaps(p netip.Prefix) (found []string) {
	tell := func(n netip.Prefix, index int) {
		c := fmt.Sprintf("network %s with %s on %q", p.Masked(), n, h.device[index])
		if !slices.Contains(found, c) {
			found = append(found, c)
		}
	}
	for _, a := range h.addrs {
		if p.Overlaps(a.Prefix) {
			tell(a.Prefix.Masked(), a.Index)
		}
	}
	for _, r := range h.routes {
		if r.Dst.Bits() == 0 || !p.Overlaps(r.Dst) {
			continue
		}
		for _, index := range r.Indexes {
			tell(r.Dst, index)
		}
	}
	return found
}
