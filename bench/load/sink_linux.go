package load

import (
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/internal/netns"
)

// What takes the frames at the end of their way, as [Outcome.Sink] has it.
const (
	sinkXDP     = "xdp"
	sinkTCX     = "tcx"
	sinkGeneric = "xdp generic"
)

// sink counts and takes the frames of generators at a device. It lets all else
// pass, and others' programs stay.
type sink struct {
	kind  string
	coll  *ebpf.Collection
	links []link.Link
}

// attach puts program prog on a device of the given namespace and index.
func (s *sink) attach(at Place, index int, prog, kind string) error {
	err := netns.Do(at.Netns, func() (err error) {
		var l link.Link
		p := s.coll.Programs[prog]
		switch kind {
		case sinkTCX:
			l, err = link.AttachTCX(link.TCXOptions{Interface: index, Program: p, Attach: ebpf.AttachTCXIngress})
		case sinkGeneric:
			l, err = link.AttachXDP(link.XDPOptions{Interface: index, Program: p, Flags: link.XDPGenericMode})
		default:
			l, err = link.AttachXDP(link.XDPOptions{Interface: index, Program: p, Flags: link.XDPDriverMode})
		}
		if err == nil {
			s.links = append(s.links, l)
		}
		return err
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EEXIST):
		err = fmt.Errorf("%w (another program is attached there; detach it)", err)
	case errors.Is(err, unix.ERANGE):
		err = fmt.Errorf("%w (veth refuses native XDP above an MTU of its peer of about 3500; lower it)", err)
	case errors.Is(err, unix.ENOSPC):
		err = fmt.Errorf("%w (veth refuses XDP with fewer receive queues than its peer has transmit queues)", err)
	}
	return fmt.Errorf("attach %s to %s: %w", prog, at, err)
}

// count returns what has come so far.
func (s *sink) count() (sum bpf.Arrival, err error) {
	var all []bpf.Arrival
	if err := s.coll.Maps[bpf.MapArrivals].Lookup(uint32(0), &all); err != nil {
		return sum, fmt.Errorf("read what arrived: %w", err)
	}
	for _, a := range all {
		sum.Packets += a.Packets
		sum.Bytes += a.Bytes
	}
	return sum, nil
}

// wait returns what has come when it is n packets, or when nothing more comes.
func (s *sink) wait(n uint64) (bpf.Arrival, error) {
	const look = time.Millisecond
	seen, err := s.count()
	for since := time.Now(); err == nil && seen.Packets < n && time.Since(since) < settling; time.Sleep(look) {
		var now bpf.Arrival
		if now, err = s.count(); now.Packets != seen.Packets {
			seen, since = now, time.Now()
		}
	}
	return seen, err
}

// close takes away what was attached.
func (s *sink) close() {
	for _, l := range s.links {
		l.Close()
	}
	s.coll.Close()
}
