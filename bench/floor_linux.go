package bench

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/nsbpf/nsbpf/internal/netns"
)

// Floor is the variant in which a program that does nothing stands at ingress
// and egress of each device: what the kernel takes for calling any. It needs
// tcx, Linux 6.6.
func Floor(devices []Device) Variant {
	return Variant{Name: "floor", Enter: func(context.Context) (func() error, error) {
		var links []link.Link
		leave := func() error {
			var errs []error
			for _, l := range links {
				errs = append(errs, l.Close())
			}
			return errors.Join(errs...)
		}
		for _, d := range devices {
			for _, side := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
				l, err := attachNothing(d, side)
				if err != nil {
					return nil, errors.Join(fmt.Errorf("attach nothing to %s: %w", d.Name, err), leave())
				}
				links = append(links, l)
			}
		}
		return leave, nil
	}}
}

// attachNothing loads a program of its own for each place, as counting does.
func attachNothing(d Device, side ebpf.AttachType) (l link.Link, err error) {
	const next = -1 // TCX_NEXT
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "nothing", Type: ebpf.SchedCLS, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, next), asm.Return()},
	})
	if err != nil {
		return nil, err
	}
	defer p.Close()
	err = netns.Do(d.Netns, func() error {
		dev, err := net.InterfaceByName(d.Name)
		if err != nil {
			return err
		}
		l, err = link.AttachTCX(link.TCXOptions{Interface: dev.Index, Program: p, Attach: side})
		return err
	})
	return l, err
}
