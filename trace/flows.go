package trace

import "github.com/nsbpf/nsbpf/collector"

// maxFlows bounds the translated flows that are remembered; when it is reached
// they are learned anew.
const maxFlows = 1 << 16

// flow is one direction of a connection as a packet shows it; of an echo both
// ports are the id.
type flow struct {
	src, dst     [16]byte
	sport, dport uint16
	proto        uint8
}

func flowOf(s *collector.Sighting) flow {
	p := &s.Packet
	f := flow{src: p.Src, dst: p.Dst, sport: p.Sport, dport: p.Dport, proto: p.Proto}
	if s.IsEcho() {
		f.sport, f.dport = p.ICMPID, p.ICMPID
	}
	return f
}

func (f flow) reply() flow {
	return flow{src: f.dst, dst: f.src, sport: f.dport, dport: f.sport, proto: f.proto}
}

// flows are those whose packets a node translates when they come to it, though
// they are addressed to the node itself: they are not delivered there. They are
// learned from packets that were seen before and after their translation.
type flows map[flow]struct{}

func (fs flows) learn(from, to *collector.Sighting) {
	for _, f := range [...]flow{flowOf(from), flowOf(to).reply()} {
		if _, known := fs[f]; known {
			continue
		}
		if len(fs) >= maxFlows {
			clear(fs)
		}
		fs[f] = struct{}{}
	}
}

func (fs flows) translates(s *collector.Sighting) bool {
	if len(fs) == 0 || s.IsFragment() {
		return false
	}
	_, ok := fs[flowOf(s)]
	return ok
}
