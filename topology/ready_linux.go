package topology

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nsbpf/nsbpf/internal/rtnl"
)

// readyTimeout bounds the wait for links to come up.
const readyTimeout = 10 * time.Second

// wanted is what has to hold in one namespace before a network works.
type wanted struct {
	running    []string // devices whose operational state is up
	forwarding []string // ports
	addrs      []AddAddr
}

// wants returns what p's network has to reach, by namespace. A bridge without
// ports never runs, so it is not waited for.
func (p Plan) wants() map[string]*wanted {
	all := map[string]*wanted{}
	in := func(space string) *wanted {
		if all[space] == nil {
			all[space] = &wanted{}
		}
		return all[space]
	}
	for _, s := range p {
		switch s := s.(type) {
		case AddVeth:
			for _, e := range []VethEnd{s.A, s.B} {
				w := in(e.Netns)
				w.running = append(w.running, e.Name)
				if e.Master == "" {
					continue
				}
				w.forwarding = append(w.forwarding, e.Name)
				if !slices.Contains(w.running, e.Master) {
					w.running = append(w.running, e.Master)
				}
			}
		case AddAddr:
			if s.Addr.Addr().Is6() {
				in(s.Netns).addrs = append(in(s.Netns).addrs, s)
			}
		}
	}
	return all
}

// ready returns when the network of p works. Changes are watched from before
// the first device came up, so none can be missed between look and wait.
func (k *kernel) ready(ctx context.Context, p Plan) error {
	limit, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for name, w := range p.wants() {
		in, err := k.space(name)
		if err != nil {
			return err
		}
		for {
			missing, err := w.missing(in.conn)
			if err != nil {
				return err
			}
			if missing == nil {
				break
			}
			err = in.watch.Wait(limit)
			switch {
			case ctx.Err() != nil:
				return context.Cause(ctx)
			case errors.Is(err, context.DeadlineExceeded):
				return fmt.Errorf("not ready after %v%s: %s", readyTimeout, where(name), strings.Join(missing, ", "))
			case err != nil:
				return err
			}
		}
	}
	return nil
}

// missing says what does not hold yet; nil if all does.
func (w *wanted) missing(c *rtnl.Conn) ([]string, error) {
	list, err := c.Links()
	if err != nil {
		return nil, err
	}
	links := map[string]rtnl.Link{}
	for _, l := range list {
		links[l.Name] = l
	}
	var missing []string
	for _, name := range w.running {
		if l := links[name]; !l.Running {
			missing = append(missing, fmt.Sprintf("%q is not up", name))
		}
	}
	for _, name := range w.forwarding {
		if l := links[name]; !l.Forwarding {
			missing = append(missing, fmt.Sprintf("port %q is not forwarding", name))
		}
	}
	if len(w.addrs) == 0 {
		return missing, nil
	}
	addrs, err := c.Addrs()
	if err != nil {
		return nil, err
	}
	for _, want := range w.addrs {
		i := slices.IndexFunc(addrs, func(a rtnl.Addr) bool {
			return a.Index == links[want.Device].Index && a.Prefix == want.Addr
		})
		switch {
		case i < 0:
			missing = append(missing, fmt.Sprintf("address %s is not there", want.Addr))
		case addrs[i].Duplicate:
			return nil, fmt.Errorf("address %s of %q is in use by another", want.Addr, want.Device)
		case addrs[i].Tentative:
			missing = append(missing, fmt.Sprintf("address %s is tentative", want.Addr))
		}
	}
	return missing, nil
}
