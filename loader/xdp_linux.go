package loader

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// attachXDP puts p on at by hook h; the caller is in at's namespace.
func attachXDP(p *ebpf.Program, at place, h Hook) (link.Link, error) {
	flags := link.XDPDriverMode
	if h == XDPGeneric {
		flags = link.XDPGenericMode
	}
	l, err := link.AttachXDP(link.XDPOptions{Program: p, Interface: at.ifindex, Flags: flags})
	if err != nil {
		return nil, fmt.Errorf("attach %s to %s: %w%s", h, at.Place(), err, xdpHint(err))
	}
	return l, nil
}

// xdpHint says what veth means by an errno; the kernel's own words are in a
// tracepoint only.
func xdpHint(err error) string {
	switch {
	case errors.Is(err, unix.ERANGE):
		return " (veth refuses native XDP when its peer's MTU is above about 3500; lower it or use --hook xdpgeneric)"
	case errors.Is(err, unix.ENOSPC):
		return " (the peer has more transmit queues than this end has receive queues; use --hook xdpgeneric)"
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EEXIST):
		return " (another XDP program is there; a device has room for one)"
	}
	return ""
}
