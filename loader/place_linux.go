package loader

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/internal/netns"
)

// place is a hop as the kernel knows it.
type place struct {
	hop.Hop
	ifindex  int
	ethernet bool
	fed      bool     // packets come from another hop
	before   []hop.ID // those that they come from; see connect
	feeds    bool     // they go on to another hop without a node's stack between; see connect
	xdpNext  bool     // they go on to an XDP hop; see connect
	standin  bool     // a trace stands in the place of the count program; see standins
	ns       *os.File // owned by places
}

// places are the hops of one call, with one descriptor for each namespace.
type places struct {
	all    []place
	spaces map[string]*os.File
}

// resolve finds the devices of hops. The caller closes the result.
func (l *Loader) resolve(hops []hop.Hop) (_ *places, err error) {
	p := &places{spaces: make(map[string]*os.File)}
	defer func() {
		if err != nil {
			p.Close()
		}
	}()
	links := make(map[string]netlink.Link)
	for _, h := range hops {
		ns, ok := p.spaces[h.Node]
		if !ok {
			if ns, err = l.lab.Netns(h.Node); err != nil {
				return nil, err
			}
			p.spaces[h.Node] = ns
		}
		dev, ok := links[h.Place()]
		if !ok {
			if dev, err = deviceIn(ns, h.Device); err != nil {
				return nil, fmt.Errorf("finding %s: %w (it was removed or renamed; nsbpf down, then up, makes it again)", h.Place(), err)
			}
			links[h.Place()] = dev
		}
		p.all = append(p.all, place{Hop: h, ifindex: dev.Attrs().Index, ethernet: isEthernet(dev), ns: ns})
	}
	return p, nil
}

func deviceIn(ns *os.File, name string) (dev netlink.Link, err error) {
	err = netns.Do(ns, func() error {
		dev, err = netlink.LinkByName(name)
		return err
	})
	return dev, err
}

// isEthernet reports whether the device hands packets with an Ethernet header.
func isEthernet(dev netlink.Link) bool {
	return dev.Attrs().EncapType == "ether" || dev.Attrs().EncapType == "loopback"
}

// connect says which hops follow each other by edges.
func (p *places) connect(edges []hop.Edge) {
	byID := p.byID()
	for _, e := range edges {
		from, to := byID[e.From], byID[e.To]
		if from == nil || to == nil {
			continue
		}
		to.fed = true
		to.before = append(to.before, from.ID)
		from.xdpNext = from.xdpNext || to.Layer == hop.XDP
		if from.Direction == hop.Egress || from.Kind == hop.Port {
			from.feeds = true
		}
	}
	// There is no skb at an XDP hop, so the one behind it is that of the hop before.
	for i := range p.all {
		for _, id := range p.all[i].before {
			if from := byID[id]; from.Layer == hop.XDP {
				p.all[i].before = append(p.all[i].before, from.before...)
			}
		}
	}
}

func (p *places) sites() []bpf.Site {
	sites := make([]bpf.Site, len(p.all))
	for i, at := range p.all {
		sites[i] = bpf.Site{
			Hop: at.ID, Ethernet: at.ethernet,
			Origin: !at.fed, Terminal: !at.feeds,
			Starts:   !at.fed || at.Direction == hop.Egress && at.Kind != hop.Port,
			Before:   at.before,
			Counting: at.standin,
			XDPNext:  at.xdpNext,
		}
	}
	return sites
}

// of returns those of a layer; they share the namespaces' descriptors.
func (p *places) of(layer hop.Layer) *places {
	return p.where(func(at place) bool { return at.Layer == layer })
}

// standing returns the tc places where a trace stands in the place of the count
// program, or those where it does not.
func (p *places) standing(in bool) *places {
	return p.where(func(at place) bool { return at.Layer == hop.TC && at.standin == in })
}

func (p *places) where(keep func(place) bool) *places {
	return &places{
		all:    slices.DeleteFunc(slices.Clone(p.all), func(at place) bool { return !keep(at) }),
		spaces: p.spaces,
	}
}

// byID returns the places themselves.
func (p *places) byID() map[hop.ID]*place {
	m := make(map[hop.ID]*place, len(p.all))
	for i := range p.all {
		m[p.all[i].ID] = &p.all[i]
	}
	return m
}

// each calls fn for every place, inside its namespace, one namespace after the
// other, and stops at the first error.
func (p *places) each(fn func(place) error) error {
	var done []string
	for _, first := range p.all {
		if slices.Contains(done, first.Node) {
			continue
		}
		done = append(done, first.Node)
		err := netns.Do(first.ns, func() error {
			for _, at := range p.all {
				if at.Node != first.Node {
					continue
				}
				if err := fn(at); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Close closes the namespaces' descriptors.
func (p *places) Close() error {
	var errs []error
	for _, ns := range p.spaces {
		errs = append(errs, ns.Close())
	}
	return errors.Join(errs...)
}
