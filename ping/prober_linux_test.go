package ping

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nsbpf/nsbpf/internal/netns"
	"github.com/nsbpf/nsbpf/internal/testenv"
)

const (
	openPort     = 7000
	closedPort   = 7001
	filteredPort = 7002
)

// serve answers at openPort of ns by TCP and UDP, and drops what is for
// filteredPort, and echoes of 99 bytes.
func serve(t *testing.T, ns *os.File) {
	t.Helper()
	err := netns.Do(ns, func() error {
		l, err := net.ListenTCP("tcp", &net.TCPAddr{Port: openPort})
		if err != nil {
			return err
		}
		t.Cleanup(func() { l.Close() })
		for _, network := range []string{"udp4", "udp6"} {
			c, err := net.ListenUDP(network, &net.UDPAddr{Port: openPort})
			if err != nil {
				return err
			}
			t.Cleanup(func() { c.Close() })
			go echo(c)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	testenv.Run(t, "ip", "netns", "exec", "far", "nft", `
		table inet t {
			chain c {
				type filter hook input priority 0
				tcp dport 7002 drop
				udp dport 7002 drop
				icmp type echo-request meta length 127 drop
				icmpv6 type echo-request meta length 147 drop
			}
		}`)
}

func echo(c *net.UDPConn) {
	buf := make([]byte, 1<<16)
	for {
		n, from, err := c.ReadFromUDP(buf)
		if err != nil {
			return
		}
		_, _ = c.WriteToUDP(buf[:n], from)
	}
}

// outcome is what became of all probes alike.
type outcome struct {
	Kind       string
	From       string
	Type, Code uint8
	Err        error
}

// probeAll sends probes and wants the same to become of all of them.
func probeAll(t *testing.T, ns *os.File, o Options) (outcome, Results) {
	t.Helper()
	p, err := Open(ns, o)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var seen []outcome
	numbers := map[int]bool{}
	results, err := p.Run(t.Context(), func(p Probe) {
		got := outcome{Err: p.Err}
		if a := p.Answer; a != nil {
			got.Kind, got.From, got.Type, got.Code = a.Kind.String(), a.From.String(), a.Type, a.Code
			if a.RTT <= 0 || a.RTT > o.WithDefaults().Timeout {
				t.Errorf("probe %d took %s", p.Number, a.RTT)
			}
		}
		seen = append(seen, got)
		numbers[p.Number] = true
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := o.WithDefaults().Count; len(seen) != want || len(numbers) != want {
		t.Fatalf("%d of %d probes were concluded, %d numbers", len(seen), want, len(numbers))
	}
	for _, s := range seen {
		if s != seen[0] {
			t.Errorf("%+v and %+v", seen[0], s)
		}
	}
	return seen[0], results
}

// fates are outcomes by family.
type fates map[string]outcome

// situation is what is sent where, and what is to become of it.
type situation struct {
	name    string
	to      map[string]string
	o       Options
	want    fates
	reached bool
}

func situations() []situation {
	alike := func(kind string) fates {
		return fates{"4": {Kind: kind, From: far["4"]}, "6": {Kind: kind, From: far["6"]}}
	}
	icmpErrors := func(type4, code4, type6, code6 uint8) fates {
		return fates{
			"4": {Kind: "icmp-error", From: far["4"], Type: type4, Code: code4},
			"6": {Kind: "icmp-error", From: far["6"], Type: type6, Code: code6},
		}
	}
	hostUnreachable, exceeded := icmpErrors(3, 1, 1, 0), icmpErrors(11, 0, 3, 0)
	unsent := fates{"4": {Err: unix.EMSGSIZE}, "6": {Err: unix.EMSGSIZE}}
	return []situation{
		// First: any other error takes away what the kernel allows of these.
		{"echo, refused", refuse, Options{Proto: ICMP}, hostUnreachable, false},
		{"udp, refused", refuse, Options{Proto: UDP, Port: openPort}, hostUnreachable, false},
		{"syn, refused", refuse, Options{Proto: TCP, Port: openPort}, hostUnreachable, false},
		{"echo", far, Options{Proto: ICMP}, alike("echo-reply"), true},
		{"echo of many fragments", far, Options{Proto: ICMP, Size: 9000}, alike("echo-reply"), true},
		{"smallest echo", far, Options{Proto: ICMP, Size: identitySize}, alike("echo-reply"), true},
		{"echo, filtered", far, Options{Proto: ICMP, Size: 99}, fates{}, false},
		{"echo, too far", lost, Options{Proto: ICMP, TTL: 1}, exceeded, false},
		{"echo, too large", far, Options{Proto: ICMP, Size: 1473, DontFragment: true}, unsent, false},
		{"udp", far, Options{Proto: UDP, Port: openPort}, alike("datagram"), true},
		{"udp, closed", far, Options{Proto: UDP, Port: closedPort}, icmpErrors(3, 3, 1, 4), true},
		{"udp, filtered", far, Options{Proto: UDP, Port: filteredPort}, fates{}, false},
		{"udp, too far", lost, Options{Proto: UDP, Port: openPort, TTL: 1}, exceeded, false},
		{"udp, too large", far, Options{Proto: UDP, Port: openPort, Size: 1473, DontFragment: true}, unsent, false},
		{"syn", far, Options{Proto: TCP, Port: openPort}, alike("syn-ack"), true},
		{"syn, closed", far, Options{Proto: TCP, Port: closedPort}, alike("rst"), true},
		{"syn, filtered", far, Options{Proto: TCP, Port: filteredPort}, fates{}, false},
		{"syn, too far", lost, Options{Proto: TCP, Port: openPort, TTL: 1}, exceeded, false},
	}
}

// TestProber probes ports that are open, closed and filtered, and addresses that
// are refused, by each protocol.
func TestProber(t *testing.T) {
	near, farNS := wire(t)
	serve(t, farNS)
	for _, tt := range situations() {
		for family, to := range tt.to {
			t.Run(tt.name+", IPv"+family, func(t *testing.T) {
				o := tt.o
				o.Dst = netip.MustParseAddr(to)
				o.Count, o.Interval, o.Timeout = 3, time.Millisecond, 2*time.Second
				if len(tt.want) == 0 {
					o.Timeout = 50 * time.Millisecond
				}
				if to == refuse[family] {
					o.Count = 1 // five at once are allowed, whatever the sysctls say
				}
				got, results := probeAll(t, near, o)
				if d := cmp.Diff(tt.want[family], got, cmp.Comparer(func(a, b error) bool { return errors.Is(a, b) })); d != "" {
					t.Errorf("outcome (-want +got):\n%s", d)
				}
				want := Results{Sent: o.Count}
				switch {
				case got.Err != nil:
					want = Results{Unsent: o.Count}
				case tt.reached:
					want.Answered = o.Count
				case got.Kind != "":
					want.Refused = o.Count
				}
				results.rtts = nil
				if d := cmp.Diff(want, results, cmp.AllowUnexported(Results{})); d != "" {
					t.Errorf("results (-want +got):\n%s", d)
				}
			})
		}
	}
}

// TestNoWay checks what is said where the kernel knows no way, and where the
// sender's own rules forbid it.
func TestNoWay(t *testing.T) {
	near, _ := wire(t)
	testenv.Run(t, "ip", "-n", "near", "route", "del", "default")
	if _, err := Open(near, Options{Dst: netip.MustParseAddr(refuse["4"])}); !errors.Is(err, unix.ENETUNREACH) {
		t.Errorf("no route: %v", err)
	}
	testenv.Run(t, "ip", "netns", "exec", "near", "nft",
		"table inet t { chain c { type filter hook output priority 0; meta l4proto { icmp, tcp, udp } drop; }; }")
	for _, o := range []Options{{}, {Proto: UDP, Port: openPort}, {Proto: TCP, Port: openPort}} {
		o.Dst, o.Count = netip.MustParseAddr(far["4"]), 1
		if got, _ := probeAll(t, near, o); got.Err != unix.EPERM {
			t.Errorf("%s: %+v, want EPERM", o.Proto, got)
		}
	}
}

// TestDuplicatesAndOrder answers echoes by hand: the first three in reverse order,
// one of them twice, the fourth with what another program sent, and too late.
func TestDuplicatesAndOrder(t *testing.T) {
	near, farNS := wire(t)
	testenv.Run(t, "ip", "netns", "exec", "far", "sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=1")
	var c *net.IPConn
	err := netns.Do(farNS, func() (err error) {
		c, err = net.ListenIP("ip4:1", &net.IPAddr{IP: net.ParseIP(far["4"])})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	expired := make(chan struct{})
	go answerByHand(c, expired)

	p, err := Open(near, Options{Dst: netip.MustParseAddr(far["4"]), Count: 5, Interval: 100 * time.Millisecond, Timeout: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var order []int
	results, err := p.Run(t.Context(), func(p Probe) {
		if order = append(order, p.Number); p.Answer == nil && p.Number == 4 {
			close(expired)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]int{3, 2, 1, 4, 5}, order); d != "" {
		t.Errorf("order of answers (-want +got):\n%s", d)
	}
	results.rtts = nil
	want := Results{Sent: 5, Answered: 4, Duplicates: 1, Late: 1}
	if d := cmp.Diff(want, results, cmp.AllowUnexported(Results{})); d != "" {
		t.Errorf("results (-want +got):\n%s", d)
	}
}

// answerByHand is what [TestDuplicatesAndOrder] says. Once expired is closed, when
// the fourth has had its time, it answers that and then the fifth.
func answerByHand(c *net.IPConn, expired <-chan struct{}) {
	var kept [][]byte
	buf := make([]byte, 1<<12)
	for len(kept) < 5 {
		n, from, err := c.ReadFromIP(buf)
		if err != nil {
			return
		}
		if buf[0] != icmpEcho {
			continue
		}
		b := append([]byte{icmpEchoReply, 0, 0, 0}, buf[4:n]...)
		kept = append(kept, b)
		reply := func(b []byte) {
			b[2], b[3] = 0, 0
			sum := checksum(b)
			b[2], b[3] = byte(sum>>8), byte(sum)
			_, _ = c.WriteToIP(b, from)
		}
		switch len(kept) {
		case 3:
			for _, i := range []int{2, 1, 1, 0} {
				reply(kept[i])
			}
		case 4:
			foreign := append([]byte(nil), b...)
			foreign[12]++ // another run
			reply(foreign)
		case 5:
			<-expired
			reply(kept[3])
			reply(kept[4])
		}
	}
}

// TestInterrupted checks that a probe on its way does not count when the user has
// had enough.
func TestInterrupted(t *testing.T) {
	near, farNS := wire(t)
	serve(t, farNS)
	p, err := Open(near, Options{Proto: UDP, Port: filteredPort, Dst: netip.MustParseAddr(far["4"]), Timeout: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	results, err := p.Run(ctx, func(p Probe) { t.Errorf("probe %+v was concluded", p) })
	if !errors.Is(err, context.DeadlineExceeded) || results.Sent != 0 {
		t.Errorf("%v, %+v", err, results)
	}
}

// TestRTT compares with ping.
func TestRTT(t *testing.T) {
	near, _ := wire(t)
	testenv.Tool(t, "ping")
	out := testenv.Run(t, "ip", "netns", "exec", "near", "ping", "-nq", "-c20", "-i0.005", far["4"])
	m := regexp.MustCompile(`= [0-9.]+/([0-9.]+)/`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("ping said %q", out)
	}
	ms, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	theirs := time.Duration(ms * float64(time.Millisecond))
	_, results := probeAll(t, near, Options{Dst: netip.MustParseAddr(far["4"]), Count: 20, Interval: 5 * time.Millisecond})
	ours := results.RTT()
	t.Logf("ping %s, ours %+v", theirs, ours)
	if ours.Median > 5*theirs+time.Millisecond || ours.Median < theirs/10 {
		t.Errorf("the median is %s, ping has %s", ours.Median, theirs)
	}
}
