package trace

import "github.com/nsbpf/nsbpf/collector"

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

// bare returns f without ports.
func (f flow) bare() flow { return flow{src: f.src, dst: f.dst, proto: f.proto} }

func (f flow) sameSrc(g flow) bool { return f.src == g.src && f.sport == g.sport }
func (f flow) sameDst(g flow) bool { return f.dst == g.dst && f.dport == g.dport }

// flows are those whose packets a node translates when they come to it, though
// they may be addressed to the node itself: they are not delivered there. They
// are learned from packets that were seen before and after their translation.
type flows struct {
	known  map[flow]flow // what the packets of a flow become
	most   int
	forgot *uint64
}

// learn keeps what from became, and what a reply to it will become. When there
// are too many, all are forgotten and learned anew.
func (fs *flows) learn(from, to *collector.Sighting) {
	if !ported(from) || !ported(to) {
		return
	}
	f, t := flowOf(from), flowOf(to)
	if becomes, known := fs.known[f]; known && becomes == t {
		return
	}
	if len(fs.known)+2 > fs.most {
		*fs.forgot += uint64(len(fs.known))
		clear(fs.known)
	}
	fs.known[f], fs.known[t.reply()] = t, f.reply()
}

// translates says whether packets like s are known to be translated.
func (fs *flows) translates(s *collector.Sighting) bool {
	if !ported(s) {
		return false
	}
	_, ok := fs.known[flowOf(s)]
	return ok
}
