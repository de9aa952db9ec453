package loader

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/nsbpf/nsbpf/internal/hop"
)

// attachTCX puts p on at, before what anchor says; the caller is in at's
// namespace. The error wraps [ebpf.ErrNotSupported] before Linux 6.6.
func attachTCX(p *ebpf.Program, at place, anchor link.Anchor) (link.Link, error) {
	l, err := link.AttachTCX(link.TCXOptions{Interface: at.ifindex, Program: p, Attach: tcxSide(at), Anchor: anchor})
	if err != nil {
		return nil, fmt.Errorf("attach tcx to %s: %w", at.Hop, err)
	}
	return l, nil
}

func tcxSide(at place) ebpf.AttachType {
	if at.Direction == hop.Egress {
		return ebpf.AttachTCXEgress
	}
	return ebpf.AttachTCXIngress
}
