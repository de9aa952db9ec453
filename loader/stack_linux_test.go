package loader

import (
	"encoding/json"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/topology"
)

// programName finds what `tc filter show` calls a program.
var programName = regexp.MustCompile(` name (\S+) tag `)

// hasTCX reports whether the kernel has tcx. To ask the kernel takes long.
var hasTCX = sync.OnceValue(func() bool {
	return slices.ContainsFunc(Probe(), func(f Feature) bool { return f.Name == "tcx" && f.OK })
})

// needs skips a test of a hook that the kernel is too old for.
func needs(tb testing.TB, hook Hook) {
	tb.Helper()
	if hook == TCX && !hasTCX() {
		tb.Skip("needs tcx (Linux 6.6)")
	}
}

// stack returns the names of the programs at a hop in the order in which the
// kernel runs them, by the kernel's own answer and that of tc and bpftool: our
// records are not asked.
func stack(tb testing.TB, lab *topology.Lab, h hop.Hop) []string {
	tb.Helper()
	if h.Layer == hop.XDP {
		return xdpStack(tb, lab, h)
	}
	var names []string
	inside(tb, lab, h.Node, func() error {
		if !hasTCX() {
			return nil
		}
		dev, err := net.InterfaceByName(h.Device)
		if err != nil {
			return err
		}
		side := ebpf.AttachTCXIngress
		if h.Direction == hop.Egress {
			side = ebpf.AttachTCXEgress
		}
		r, err := link.QueryPrograms(link.QueryOptions{Target: dev.Index, Attach: side})
		if err != nil {
			return err
		}
		for _, p := range r.Programs {
			name, err := nameOf(p.ID)
			if err != nil {
				return err
			}
			names = append(names, "tcx "+name)
		}
		return nil
	})
	if strings.Contains(in(tb, lab, h.Node, "tc", "qdisc", "show", "dev", h.Device), "clsact") {
		for _, m := range programName.FindAllStringSubmatch(in(tb, lab, h.Node, "tc", "filter", "show", "dev", h.Device, h.Direction.String()), -1) {
			names = append(names, "clsact "+m[1])
		}
	}
	return names
}

func nameOf(id ebpf.ProgramID) (string, error) {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return "", err
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return "", err
	}
	return info.Name, nil
}

func xdpStack(tb testing.TB, lab *topology.Lab, h hop.Hop) []string {
	tb.Helper()
	var found []struct {
		XDP []struct {
			DevName, Mode string
			ID            ebpf.ProgramID
		}
	}
	if err := json.Unmarshal([]byte(in(tb, lab, h.Node, "bpftool", "-j", "net")), &found); err != nil {
		tb.Fatal(err)
	}
	var names []string
	for _, x := range found[0].XDP {
		if x.DevName != h.Device {
			continue
		}
		name, err := nameOf(x.ID)
		if err != nil {
			tb.Fatal(err)
		}
		names = append(names, x.Mode+" "+name)
	}
	return names
}

// checkStacks compares what is attached at every hop, tc and XDP.
func checkStacks(tb testing.TB, lab *topology.Lab, want func(hop.Hop) []string) {
	tb.Helper()
	for _, h := range lab.Topology.Hops(true) {
		if diff := cmp.Diff(want(h), stack(tb, lab, h)); diff != "" {
			tb.Errorf("programs at %s (-want +got):\n%s", h, diff)
		}
	}
}

func nothing(hop.Hop) []string { return nil }

// countedBy is what AttachCount leaves at each hop.
func countedBy(hooks Hooks) func(hop.Hop) []string {
	return func(h hop.Hop) []string {
		switch {
		case h.Layer == hop.TC && (hooks.TC == Clsact || !hasTCX()):
			return []string{"clsact count_tc"}
		case h.Layer == hop.TC:
			return []string{"tcx count_tc"}
		case hooks.XDP == XDPNative:
			return []string{"driver count_xdp"}
		case hooks.XDP == XDPGeneric:
			return []string{"generic count_xdp"}
		}
		return nil
	}
}

// foreign loads a program of somebody else's.
func foreign(tb testing.TB, kind ebpf.ProgramType, body ...asm.Instruction) *ebpf.Program {
	tb.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "foreign", Type: kind, License: "GPL", Instructions: body})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { p.Close() })
	return p
}

// foreignXDP attaches an XDP program of somebody else's to left's device.
func foreignXDP(tb testing.TB, lab *topology.Lab) {
	tb.Helper()
	p := foreign(tb, ebpf.XDP, asm.Mov.Imm(asm.R0, 2), asm.Return())
	inside(tb, lab, "left", func() error {
		dev, err := net.InterfaceByName("left-veth")
		if err != nil {
			return err
		}
		ln, err := link.AttachXDP(link.XDPOptions{Program: p, Interface: dev.Index, Flags: link.XDPDriverMode})
		if err == nil {
			tb.Cleanup(func() { ln.Close() })
		}
		return err
	})
}

// foreignTCX attaches a program of somebody else's before all others.
func foreignTCX(tb testing.TB, lab *topology.Lab, at hop.Hop) {
	tb.Helper()
	p := foreign(tb, ebpf.SchedCLS, asm.Mov.Imm(asm.R0, -1), asm.Return())
	inside(tb, lab, at.Node, func() error {
		dev, err := net.InterfaceByName(at.Device)
		if err != nil {
			return err
		}
		ln, err := attachTCX(p, place{Hop: at, ifindex: dev.Index}, link.Head())
		if err == nil {
			tb.Cleanup(func() { ln.Close() })
		}
		return err
	})
}
