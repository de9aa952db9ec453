package load

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/nsbpf/nsbpf/internal/netns"
)

// floorFrames is how many frames [Floor] sends.
const floorFrames = 1 << 21

// Floor returns the CPU time, as [Outcome.CPU] has it, that the kernel takes for a
// frame of a load of mode PPS with nothing done to it: a program that redirects
// all, and one at the other end that drops all. It is what PPS is to be measured by,
// interleaved with it. The same paths are refused as by [Run].
func Floor(ctx context.Context, s Spec) (perFrame time.Duration, err error) {
	if s, err = s.Check(); err != nil {
		return 0, err
	}
	if s.Mode != PPS || len(s.Via) > 0 {
		return 0, errors.New("the floor is that of mode pps over one veth pair")
	}
	r := &running{Spec: s}
	if len(r.CPUs) == 0 {
		if r.CPUs, err = ownCPUs(); err != nil {
			return 0, err
		}
	}
	if perFrame, err = r.floor(ctx); err != nil {
		return 0, fmt.Errorf("measure the floor from %s to %s: %w", s.From, s.To, err)
	}
	return perFrame, nil
}

func (r *running) floor(ctx context.Context) (time.Duration, error) {
	w, err := r.survey()
	if err != nil {
		return 0, err
	}
	self, err := netns.OpenSelf()
	if err != nil {
		return 0, err
	}
	defer self.Close()
	out, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.DevMap, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		return 0, err
	}
	defer out.Close()
	if err := netns.Do(w.inside(nil), func() error { return out.Put(uint32(0), uint32(w.ifindex)) }); err != nil {
		return 0, err
	}
	drop, err := xdp(asm.Mov.Imm(asm.R0, 1)) // XDP_DROP
	if err != nil {
		return 0, err
	}
	defer drop.Close()
	redirect, err := xdp(asm.LoadMapPtr(asm.R1, out.FD()), asm.Mov.Imm(asm.R2, 0), asm.Mov.Imm(asm.R3, 0), asm.FnRedirectMap.Call())
	if err != nil {
		return 0, err
	}
	defer redirect.Close()
	var sink link.Link
	err = netns.Do(w.to.Netns, func() error {
		sink, err = link.AttachXDP(link.XDPOptions{Interface: w.toDev.Index, Program: drop, Flags: link.XDPDriverMode})
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("attach to %s: %w", w.to, err)
	}
	defer sink.Close()

	threads := crew{ns: w.inside(self), cpus: r.CPUs}
	stop := context.AfterFunc(ctx, threads.interrupt)
	defer stop()
	before := readMachineTime()
	threads.start(0, func() error {
		return runLive(redirect.FD(), w.ifindex, w.frame.bytes(r.Size), floorFrames)
	})
	if err := errors.Join(threads.join(), ctx.Err()); err != nil {
		return 0, err
	}
	return (threads.time() + readMachineTime().softirqd - before.softirqd) / floorFrames, nil
}

func xdp(body ...asm.Instruction) (*ebpf.Program, error) {
	return ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "floor", Type: ebpf.XDP, License: "GPL", Instructions: append(asm.Instructions(body), asm.Return()),
	})
}
