package load

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var (
	four = netip.MustParseAddr("10.0.0.1")
	six  = netip.MustParseAddr("fd00::1")
)

func TestCheckChooses(t *testing.T) {
	for _, c := range []struct {
		spec       Spec
		size, port int
	}{
		{Spec{Mode: TCP}, 128 << 10, 0},
		{Spec{Mode: UDP}, 64, 0},
		{Spec{Mode: RR}, 1, 0},
		{Spec{Mode: RR, OverUDP: true}, 16, 0},
		{Spec{Mode: CRR}, 1, 0},
		{Spec{Mode: SKB}, 64, 9},
	} {
		want := c.spec
		want.From = Place{Node: "a", Device: "eth0", Addr: four}
		want.To = Place{Node: "b", Device: "eth0", Addr: four.Next()}
		got, err := want.Check()
		if err != nil {
			t.Errorf("%s: %v", c.spec.Mode, err)
			continue
		}
		want.Size, want.Port = c.size, uint16(c.port)
		want.Flows, want.Threads, want.Duration, want.Congestion = 1, 1, time.Second, "cubic"
		if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.spec.Mode, diff)
		}
	}
}

func TestCheckRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		spec Spec
		says string
	}{
		"mode":         {Spec{Mode: "icmp"}, `mode "icmp" does not exist (want one of tcp, udp, rr, crr, pps, skb)`},
		"address":      {Spec{Mode: TCP}, "needs the address"},
		"families":     {Spec{Mode: TCP, From: Place{Addr: six}, To: Place{Addr: four}}, "two families"},
		"short frame":  {Spec{Mode: UDP, Size: 63}, "a frame of 63 bytes (mode udp has those of 64 to 1514)"},
		"long frame":   {Spec{Mode: PPS, Size: 1515}, "a frame of 1515 bytes"},
		"datagram":     {Spec{Mode: RR, OverUDP: true, Size: 3}, "a datagram of 3 bytes"},
		"two rates":    {Spec{Mode: UDP, Rate: 1, Bits: 1}, "want one of them"},
		"rate of tcp":  {Spec{Mode: TCP, Rate: 1}, "bits a second"},
		"bits of rr":   {Spec{Mode: RR, Bits: 1}, "transactions a second"},
		"negative":     {Spec{Mode: UDP, Rate: -1}, "below 0"},
		"time":         {Spec{Mode: UDP, Duration: -1}, "want such as 1s"},
		"mix":          {Spec{Mode: TCP, IMIX: true}, "no frames to mix"},
		"gso":          {Spec{Mode: TCP, GSO: true}, "option of mode udp"},
		"gso and mix":  {Spec{Mode: UDP, GSO: true, IMIX: true}, "leave out IMIX"},
		"crr over udp": {Spec{Mode: CRR, OverUDP: true}, "want rr"},
		"reset":        {Spec{Mode: TCP, Reset: true}, "want crr"},
		"flows":        {Spec{Mode: PPS, Flows: 16385}, "16385 flows (mode pps has 1 to 16384)"},
		"tcp flows":    {Spec{Mode: TCP, Flows: 257}, "1 to 256"},
		"threads":      {Spec{Mode: UDP, Flows: 2, Threads: 3}, "3 threads for 2 flows"},
		"cpu":          {Spec{Mode: UDP, CPUs: []int{-1}}, "CPU -1 does not exist"},
		"veth end":     {Spec{Mode: PPS, From: Place{Node: "a"}}, "needs the veth end of a"},
		"devices":      {Spec{Mode: SKB, To: Place{Node: "b"}}, "needs the device of b"},
	} {
		if _, err := c.spec.Check(); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: error %v, want one that says %q", name, err, c.says)
		}
	}
}

func TestPacketRate(t *testing.T) {
	for _, c := range []struct {
		spec Spec
		want float64
	}{
		{Spec{Size: 64}, 0},
		{Spec{Size: 64, Rate: 5e6}, 5e6},
		{Spec{Size: 1000, Bits: 8e6}, 1000},
		{Spec{IMIX: true, Bits: 8 * (7*64 + 4*594 + 1514)}, 12},
	} {
		if got := c.spec.packetRate(); got != c.want {
			t.Errorf("%+v: %v packets a second, want %v", c.spec, got, c.want)
		}
	}
	count := make(map[int]int)
	for _, n := range (Spec{IMIX: true}).sizes() {
		count[n]++
	}
	if diff := cmp.Diff(map[int]int{64: 7, 594: 4, 1514: 1}, count); diff != "" {
		t.Errorf("IMIX (-want +got):\n%s", diff)
	}
}

func TestSettle(t *testing.T) {
	socket := Loss{Place: "socket", Node: "b", Reason: "SOCKET_RCVBUFF", Packets: 30}
	qdisc := Loss{Place: "qdisc", Node: "a", Reason: "QDISC_DROP", Packets: 10}
	cut := func(l Loss, n uint64) Loss { l.Packets = n; return l }
	for name, c := range map[string]struct {
		sent, received uint64
		known, want    []Loss
	}{
		"all is known":     {100, 60, []Loss{qdisc, socket}, []Loss{socket, qdisc}},
		"some is unknown":  {100, 55, []Loss{qdisc, socket}, []Loss{socket, qdisc, {Place: "unknown", Packets: 5}}},
		"nothing is lost":  {100, 100, []Loss{qdisc}, nil},
		"others' packets":  {100, 65, []Loss{qdisc, socket}, []Loss{socket, cut(qdisc, 5)}},
		"nothing is known": {100, 0, nil, []Loss{{Place: "unknown", Packets: 100}}},
		"copies arrived":   {100, 120, nil, nil},
	} {
		o := Outcome{Sent: Tally{Packets: c.sent}, Received: Tally{Packets: c.received}}
		o.settle(c.known)
		if diff := cmp.Diff(c.want, o.Lost); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestPlaceOf(t *testing.T) {
	for reason, want := range map[string]string{
		"SOCKET_RCVBUFF": "socket", "NO_SOCKET": "socket", "CPU_BACKLOG": "backlog", "FULL_RING": "veth",
		"QDISC_DROP": "qdisc", "QDISC_OVERLIMIT": "qdisc", "NETFILTER_DROP": "netfilter",
		"XDP": "program", "TC_EGRESS": "program", "IP_INNOROUTES": "stack", "NOT_SPECIFIED": "stack",
	} {
		if got := placeOf(reason); got != want {
			t.Errorf("%s is of %s, want %s", reason, got, want)
		}
	}
}

func TestShare(t *testing.T) {
	for _, c := range []struct {
		cpus                    []int
		threads                 int
		wantSenders, wantOthers []int
	}{
		{[]int{0, 1}, 1, []int{0}, []int{1}},
		{[]int{3}, 2, []int{3, 3}, []int{3, 3}},
		{[]int{0, 1, 2, 3}, 2, []int{0, 1}, []int{2, 3}},
	} {
		s, o := share(c.cpus, c.threads)
		if diff := cmp.Diff([][]int{c.wantSenders, c.wantOthers}, [][]int{s, o}); diff != "" {
			t.Errorf("%v among %d (-want +got):\n%s", c.cpus, c.threads, diff)
		}
	}
}
