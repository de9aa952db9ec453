package loader

import (
	"net"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/internal/testenv"
	"github.com/nsbpf/nsbpf/topology"
)

// TestTraceWire has the wire, or what stands at its ends, cut, merge or write
// packets between two hops. The sightings of each hop are what was counted there,
// to the byte, and nothing is mistaken for what was seen before.
func TestTraceWire(t *testing.T) {
	for _, tt := range []struct{ name, node, before string }{
		{"plain", "left", "true"},
		{"merged by gro", "right", "ethtool -K right-veth gro on"},
		{"cut by tbf", "left", "tc qdisc add dev left-veth root tbf rate 2gbit burst 20000 limit 10000000"},
		{"cut by the device", "left", "ethtool -K left-veth tso off gso off tx off sg off"},
	} {
		for _, expr := range []string{"", "tcp or not tcp"} {
			t.Run(tt.name+" "+expr, func(t *testing.T) {
				testenv.Tool(t, "ethtool")
				lab := quiet(t)
				in(t, lab, tt.node, "sh", "-ec", tt.before)
				traceExactly(t, lab, expr, func() { stream(t, lab, 1<<20) })
			})
		}
	}
}

// TestTraceWritten has packets written behind all of tcx. What the other end of the
// wire sees is another packet.
func TestTraceWritten(t *testing.T) {
	needs(t, TCX)
	for _, expr := range []string{"", "udp or not udp"} {
		t.Run(expr, func(t *testing.T) {
			lab := quiet(t)
			writePort(t, lab)
			ports := make(map[string][]int)
			for _, r := range traceExactly(t, lab, expr, func() { sendUDP(t, lab, 9, 20) }) {
				for i := range r.Len() {
					id, _ := r.At(i)
					at := lab.Topology.Hops(false)[id].String()
					if p := int(r.Packet.Sport); r.Packet.Proto == unix.IPPROTO_UDP && !slices.Contains(ports[at], p) {
						ports[at] = append(ports[at], p)
					}
				}
			}
			if out := ports["left:left-veth out"]; len(out) != 1 || out[0] == writtenPort {
				t.Errorf("they left from ports %v", out)
			}
			if diff := cmp.Diff([]int{writtenPort}, ports["right:right-veth in"]); diff != "" {
				t.Errorf("they came from ports (-want +got):\n%s", diff)
			}
		})
	}
}

// quiet brings up a counted pair that sends nothing by itself.
func quiet(t *testing.T) *topology.Lab {
	t.Helper()
	lab := up(t, preset(t, "pair"))
	for _, node := range []string{"left", "right"} {
		in(t, lab, node, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
	}
	attachCount(t, lab, Hooks{})
	return lab
}

// traceExactly traces what send sends, and compares the sightings with what was
// counted.
func traceExactly(t *testing.T, lab *topology.Lab, expr string, send func()) []collector.Run {
	t.Helper()
	opts := TraceOptions{Ring: 1 << 24}
	if expr != "" {
		opts.Match = compile(t, expr)
	}
	was, _ := measure(t, lab)
	tr := startTrace(t, lab, opts)
	send()
	now, _ := measure(t, lab)
	runs := sightings(t, tr)
	seen, want := make(map[string]amount), make(map[string]amount)
	for i := range runs {
		for j := range runs[i].Len() {
			id, _ := runs[i].At(j)
			at := tr.Hops[id].String()
			seen[at] = amount{seen[at].Packets + 1, seen[at].Bytes + uint64(runs[i].Packet.Len)}
		}
	}
	counted := since(now, was)
	for _, h := range tr.Hops {
		want[h.String()] = counted[h.String()]
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("sightings (-counted +seen):\n%s", diff)
	}
	return runs
}

// writtenPort is the source that [writePort] writes.
const writtenPort = 512

// writePort has a clsact filter of somebody else's at left's way out, behind all of
// tcx, that gives datagrams another source port.
func writePort(t *testing.T, lab *topology.Lab) {
	t.Helper()
	p := foreign(t, ebpf.SchedCLS,
		asm.Mov.Imm(asm.R0, writtenPort>>8), asm.StoreMem(asm.RFP, -8, asm.R0, asm.DWord), // big endian
		asm.Mov.Imm(asm.R2, 34),
		asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, -8),
		asm.Mov.Imm(asm.R4, 2), asm.Mov.Imm(asm.R5, 0),
		asm.FnSkbStoreBytes.Call(),
		asm.Mov.Imm(asm.R0, -1), asm.Return())
	ns, err := lab.Netns("left")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	inside(t, lab, "left", func() error {
		c, err := openClsact(ns)
		if err != nil {
			return err
		}
		defer c.Close()
		dev, err := net.InterfaceByName("left-veth")
		if err != nil {
			return err
		}
		if err := c.addQdisc(dev.Index); err != nil {
			return err
		}
		at := place{Hop: hop.Hop{Direction: hop.Egress}, ifindex: dev.Index}
		return c.addFilter(p, at, 1, "foreign")
	})
}
