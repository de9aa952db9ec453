package report

import (
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/nsbpf/nsbpf/forward"
	"github.com/nsbpf/nsbpf/ping"
	"github.com/nsbpf/nsbpf/trace"
	"github.com/nsbpf/nsbpf/trace/why"
)

// probes is what four probes through preset nat with a wan did: two were answered,
// one was dropped in host, and one was refused there.
func probes(t *testing.T) *Ping {
	t.Helper()
	topo := natWAN(t)
	r := record(t, topo)
	src, dst := netip.MustParseAddr("172.16.16.10"), netip.MustParseAddr("8.8.8.8")
	toWAN := []string{"left:left-veth out", "host:left-br0-veth in", "host:br0 in", "host:eth0 out", "wan:eth0 in"}
	way := func(hops []string, step uint64) []at {
		var all []at
		for i, h := range hops {
			all = append(all, at{hop: h, after: step * uint64(i*1000+700)})
		}
		return all
	}
	r.send(icmp4(8, 0, "172.16.16.10", "8.8.8.8"), way(toWAN, 1)...)
	r.send(icmp4(0, 0, "8.8.8.8", "172.16.16.10"), way([]string{"wan:eth0 out", "host:eth0 in", "host:br0 out", "host:left-br0-veth out", "left:left-veth in"}, 1)...)
	r.send(icmp4(8, 0, "172.16.16.10", "8.8.8.8"), way(toWAN, 2)...)
	r.send(icmp4(8, 0, "172.16.16.10", "8.8.8.8"), way(toWAN[:3], 1)...)
	paths := r.end()
	lost := paths[3]
	lost.Verdict, lost.Drops = trace.Dropped, []trace.Drop{{Node: "host", Reason: "NETFILTER_DROP"}}

	sent := time.Unix(1700000000, 0)
	probe := func(n int, a *ping.Answer, err error) ping.Probe {
		if a != nil {
			a.Received = sent.Add(a.RTT)
		}
		return ping.Probe{Number: n, Key: ping.Key{Src: src, Dst: dst, ID: 7, Seq: uint32(n)}, Sent: sent, Answer: a, Err: err}
	}
	reply := func(rtt time.Duration) *ping.Answer {
		return &ping.Answer{Kind: ping.EchoReply, From: dst, RTT: rtt}
	}
	p := &Ping{
		Lab: "nat", From: "left", To: "wan", Source: src, MTU: 1500, Hops: r.hops,
		Options: ping.Options{Dst: dst, Count: 5}.WithDefaults(),
		Probes: []Probe{
			{Probe: probe(1, reply(61*time.Microsecond), nil), Forward: paths[0], Back: paths[1]},
			{Probe: probe(2, reply(70*time.Microsecond), nil), Forward: paths[2]},
			{Probe: probe(3, nil, nil), Forward: lost, ForwardWhy: &why.Conclusion{
				Code: "rule", Place: "host, forward", Certain: true,
				Sentence: "dropped in host, forward, by the policy of chain c (table ip fw)",
				Advice:   "nft add rule ip fw c accept",
			}},
			{Probe: probe(4, &ping.Answer{Kind: ping.ICMPError, From: netip.MustParseAddr("172.16.16.1"), Type: 3, Code: 4, MTU: 1400, RTT: 30 * time.Microsecond}, nil)},
			{Probe: probe(5, nil, errors.New("operation not permitted"))},
		},
		Differences: []string{"forward: predicted host:eth0 out, was dropped in host"},
	}
	for i := range p.Probes {
		pr := &p.Probes[i]
		p.Results.Add(&pr.Probe)
		if pr.Forward != nil {
			p.Forward.Add(pr.Forward, false)
		}
		if pr.Back != nil {
			p.Back.Add(pr.Back, true)
		}
	}
	p.Results.Duplicates, p.Results.Late = 1, 2
	return p
}

func TestPing(t *testing.T) {
	write := func(style Style) func(io.Writer) error {
		return func(w io.Writer) error {
			p := probes(t)
			for i := range p.Probes {
				if _, err := io.WriteString(w, ProbeText(&p.Probes[i].Probe, p.Options.Timeout, style)+"\n"); err != nil {
					return err
				}
			}
			return PingText(w, p, style)
		}
	}
	golden(t, "ping.txt", write(Style{}))
	golden(t, "ping-colour.txt", write(Colour))
	goldenJSON(t, "ping.json", "nsbpf.ping/1", func(w io.Writer) error { return PingJSON(w, probes(t)) })
}

// TestPingAsPredicted checks the lines that say how it compares with the prediction.
func TestPingAsPredicted(t *testing.T) {
	for untold, want := range map[string]string{"": "as predicted\n", "no permission": "no prediction: no permission\n"} {
		var b strings.Builder
		if err := PingText(&b, &Ping{From: "a", To: "b", Untold: untold}, Style{}); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(b.String(), "\n"+want) {
			t.Errorf("%q, want it to begin with %q", b.String(), want)
		}
	}
	var b strings.Builder
	p := Ping{From: "a", To: "b", Stop: &forward.Obstacle{Sentence: "a has no route to b", Advice: "give it one"}}
	if err := PingText(&b, &p, Style{}); err != nil || !strings.HasPrefix(b.String(), "\nas predicted: a has no route to b\n    give it one\n") {
		t.Errorf("%q, %v", b.String(), err)
	}
}

// TestAnswers checks what each kind of answer is called, in both families.
func TestAnswers(t *testing.T) {
	four, six := netip.MustParseAddr("8.8.8.8"), netip.MustParseAddr("2001:4860:4860::8888")
	other := netip.MustParseAddr("192.0.2.1")
	for want, a := range map[string]struct {
		to netip.Addr
		a  ping.Answer
	}{
		"answered by echo reply in 61.0 µs":                         {four, ping.Answer{Kind: ping.EchoReply, From: four}},
		"answered by echo reply from 192.0.2.1 in 61.0 µs":          {four, ping.Answer{Kind: ping.EchoReply, From: other}},
		"answered by datagram in 61.0 µs":                           {six, ping.Answer{Kind: ping.Datagram, From: six}},
		"answered by SYN-ACK, the port is open in 61.0 µs":          {four, ping.Answer{Kind: ping.SYNACK, From: four}},
		"answered by RST, the port is closed in 61.0 µs":            {four, ping.Answer{Kind: ping.RST, From: four}},
		"answered by port unreachable in 61.0 µs":                   {six, ping.Answer{Kind: ping.ICMPError, From: six, Type: 1, Code: 4}},
		"refused by 192.0.2.1: host unreachable in 61.0 µs":         {four, ping.Answer{Kind: ping.ICMPError, From: other, Type: 3, Code: 1}},
		"refused by 192.0.2.1: port unreachable in 61.0 µs":         {four, ping.Answer{Kind: ping.ICMPError, From: other, Type: 3, Code: 3}},
		"refused by 192.0.2.1: type 12 code 9 in 61.0 µs":           {six, ping.Answer{Kind: ping.ICMPError, From: other, Type: 12, Code: 9}},
		"refused by 192.0.2.1: packet too big, MTU 1280 in 61.0 µs": {six, ping.Answer{Kind: ping.ICMPError, From: other, Type: 2, MTU: 1280}},
	} {
		a.a.RTT = 61 * time.Microsecond
		p := ping.Probe{Number: 1, Key: ping.Key{Dst: a.to}, Answer: &a.a}
		if got := ProbeText(&p, time.Second, Style{}); got != "probe 1: "+want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
