package load

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Tally counts packets and their bytes: frames with their Ethernet headers of UDP,
// PPS and SKB; segments and bytes of payload of TCP; messages of RR and CRR.
type Tally struct {
	Packets, Bytes uint64
}

// Loss is what one place lost.
type Loss struct {
	// Place is veth, backlog, qdisc, netfilter, socket, program, stack, or unknown.
	Place   string
	Node    string // "" if it is unknown
	Reason  string // as the kernel names it; "" if it does not
	Packets uint64
}

// Outcome is what became of a load.
type Outcome struct {
	// Sent is what the sender's kernel took, and Received what came to the receiver's
	// socket or to the sink. Of RR and CRR it is transactions, and those without an
	// answer are lost.
	Sent, Received Tally
	// Refused is what the sender's kernel did not take (ENOBUFS, EAGAIN, no port left).
	Refused uint64
	// Lost is what was sent and not received, by place; unknown is the rest. Of TCP
	// it is segments, which TCP sent again.
	Lost []Loss
	// Elapsed is from the first packet to the last that arrived.
	Elapsed time.Duration
	// SenderCPU and ReceiverCPU are the times of the threads' own clocks, with the
	// softirqs that ran on top of them. Softirqd is that of the kernel's own threads
	// for softirqs, on all CPUs. They do not overlap.
	SenderCPU, ReceiverCPU, Softirqd time.Duration
	// SoftirqCPU and BusyCPU are the machine's, whoever caused them, in steps of
	// 10 ms; softirqs are also in the times above.
	SoftirqCPU, BusyCPU time.Duration
	// Latency has the ns that transactions of RR and CRR took; nil of others. Of
	// those with a rate it is the time since they were due.
	Latency *hdrhistogram.Histogram
	// Senders and Receivers are the CPUs that the threads were pinned to.
	Senders, Receivers []int
	// Congestion is the congestion control of TCP that was in force.
	Congestion string
	// Sink is what took the frames of PPS and SKB: xdp, tcx or xdp generic.
	Sink string
	// Notes are what one has to know of the figures.
	Notes []string
}

// CPU returns the time that the load took of the machine.
func (o Outcome) CPU() time.Duration { return o.SenderCPU + o.ReceiverCPU + o.Softirqd }

// NSPerPacket returns the CPU time of a packet that arrived, in ns; 0 if none did.
func (o Outcome) NSPerPacket() float64 { return ratio(float64(o.CPU()), float64(o.Received.Packets)) }

// NSPerKilobyte returns the CPU time of 1000 bytes that arrived, in ns.
func (o Outcome) NSPerKilobyte() float64 {
	return ratio(float64(o.CPU()), float64(o.Received.Bytes)/1000)
}

// PacketRate returns packets, or transactions, a second that arrived.
func (o Outcome) PacketRate() float64 {
	return ratio(float64(o.Received.Packets), o.Elapsed.Seconds())
}

// BitRate returns the bits a second that arrived.
func (o Outcome) BitRate() float64 { return ratio(float64(o.Received.Bytes)*8, o.Elapsed.Seconds()) }

func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// LostPackets is the sum of o.Lost.
func (o Outcome) LostPackets() (n uint64) {
	for _, l := range o.Lost {
		n += l.Packets
	}
	return n
}

// unknown is the place of what nobody says where it was lost.
const unknown = "unknown"

// settle enters what the kernel said of drops, and calls the rest unknown. What it
// said of more than is missing was of others' packets, or of packets that were sent
// again; then the most it can have been of ours is kept, the largest first.
func (o *Outcome) settle(known []Loss) {
	missing := o.Sent.Packets - min(o.Sent.Packets, o.Received.Packets)
	slices.SortStableFunc(known, func(a, b Loss) int {
		return cmp.Or(cmp.Compare(b.Packets, a.Packets), cmp.Compare(a.Node, b.Node), cmp.Compare(a.Reason, b.Reason))
	})
	o.Lost = nil
	for _, l := range known {
		if l.Packets = min(l.Packets, missing); l.Packets == 0 {
			break
		}
		o.Lost = append(o.Lost, l)
		missing -= l.Packets
	}
	if missing > 0 {
		o.Lost = append(o.Lost, Loss{Place: unknown, Packets: missing})
	}
}

// placeOf returns the place that a reason of the kernel's speaks of.
func placeOf(reason string) string {
	switch {
	case reason == "FULL_RING":
		return "veth"
	case reason == "CPU_BACKLOG":
		return "backlog"
	case reason == "NETFILTER_DROP", reason == "BPF_CGROUP_EGRESS":
		return "netfilter"
	case strings.HasPrefix(reason, "QDISC_"), strings.HasPrefix(reason, "QUEUE_"):
		return "qdisc"
	case strings.HasPrefix(reason, "SOCKET_"), reason == "NO_SOCKET", reason == "PROTO_MEM":
		return "socket"
	case reason == "XDP", strings.HasPrefix(reason, "TC_"):
		return "program"
	}
	return "stack"
}
