package report

import (
	"io"
	"net/netip"
	"testing"

	"github.com/nsbpf/nsbpf/forward"
	"github.com/nsbpf/nsbpf/internal/hop"
)

// journey is the way from left of preset nat to wan's TCP port 443, and that of
// the answer, which a rule stops.
func journey() *forward.Journey {
	inside := forward.Packet{
		Src: netip.MustParseAddr("172.16.16.10"), Dst: netip.MustParseAddr("8.8.8.8"),
		Proto: forward.TCP, Dport: 443, TTL: 64, Length: 44,
	}
	outside := inside
	outside.Src, outside.TTL = netip.MustParseAddr("192.0.2.2"), 63
	answer := outside
	answer.Src, answer.Dst, answer.Sport, answer.Dport = outside.Dst, outside.Src, 443, 0
	step := func(node, device string, d hop.Direction, p forward.Packet) forward.Step {
		return forward.Step{Hop: hop.Hop{ID: hop.None, Node: node, Device: device, Direction: d}, Packet: p}
	}
	first, translated := step("left", "left-veth", hop.Egress, inside), step("host", "eth0", hop.Egress, outside)
	first.Route, translated.Route = "default via 172.16.16.1 dev left-veth", "default via 192.0.2.1 dev eth0"
	translated.NAT = []forward.NAT{{Kind: "snat", By: &forward.RuleAt{Family: "ip", Table: "nsbpf-nat", Chain: "POSTROUTING", Handle: 3, Text: "masquerade"}}}
	return &forward.Journey{
		From: "left", Packet: inside, End: forward.Delivered, At: "wan",
		Steps: []forward.Step{
			first, step("host", "left-br0-veth", hop.Ingress, inside), step("host", "br0", hop.Ingress, inside),
			translated, step("wan", "eth0", hop.Ingress, outside),
		},
		Obstacles: []forward.Obstacle{
			{Code: forward.Program, Effect: forward.Unknown, Node: "host", Device: "br0", Step: 2, Sentence: "what tc program \"shaper\" at host:br0 does is not known"},
			{Code: forward.NobodyListens, Effect: forward.Note, Node: "wan", Step: 4, Sentence: "nobody listens on TCP port 443 of wan", Advice: "it answers with a reset"},
		},
		Back: &forward.Journey{
			From: "wan", Packet: answer, End: forward.Stopped, At: "host",
			Steps: []forward.Step{step("wan", "eth0", hop.Egress, answer), step("host", "eth0", hop.Ingress, answer)},
			Obstacles: []forward.Obstacle{{
				Code: forward.Netfilter, Effect: forward.Stops, Node: "host", Hook: "forward", Step: 1,
				Rule:     &forward.RuleAt{Family: "ip", Table: "fw", Chain: "fwd", Text: "policy drop"},
				Sentence: "dropped by `policy drop` (table ip fw, chain fwd) in host, forward",
				Advice:   "add a rule to that chain that accepts it",
			}},
		},
	}
}

func TestJourney(t *testing.T) {
	golden(t, "journey.txt", func(w io.Writer) error { return JourneyText(w, journey(), Style{}) })
	golden(t, "journey-colour.txt", func(w io.Writer) error { return JourneyText(w, journey(), Colour) })
	goldenJSON(t, "journey.json", "nsbpf.journey/1", func(w io.Writer) error { return JourneyJSON(w, "nat", journey()) })
}

// TestJourneyNowhere writes ways without a hop.
func TestJourneyNowhere(t *testing.T) {
	p := forward.Packet{Src: netip.MustParseAddr("::1"), Dst: netip.MustParseAddr("::1"), Proto: forward.ICMP6, Type: 128, Length: 104}
	stopped := &forward.Journey{
		From: "left", Packet: p, End: forward.Stopped, At: "left",
		Obstacles: []forward.Obstacle{{Code: forward.NoRoute, Effect: forward.Stops, Node: "left", Step: -1, Sentence: "left has no route to ::1", Advice: "add one"}},
	}
	golden(t, "journey-nowhere.txt", func(w io.Writer) error {
		for _, j := range []*forward.Journey{stopped, {From: "left", Packet: p, End: forward.Delivered, At: "left"}, {From: "left", Packet: p, End: forward.Lost, At: "left"}} {
			if err := JourneyText(w, j, Style{}); err != nil {
				return err
			}
		}
		return nil
	})
}
