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

func (p *places) sites() []bpf.Site {
	sites := make([]bpf.Site, len(p.all))
	for i, at := range p.all {
		sites[i] = bpf.Site{Hop: at.ID, Ethernet: at.ethernet}
	}
	return sites
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
