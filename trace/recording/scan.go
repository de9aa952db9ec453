package recording

import (
	"bytes"
	"encoding"
)

// scanner reads a line as [Writer] writes it: JSON without spaces, with texts that
// have no escapes. Nearly all lines are sightings, and encoding/json takes several
// times as long for one. What is written otherwise is bad here and is left to
// encoding/json, which knows more ways to write it and says what is wrong.
type scanner struct {
	rest []byte
	bad  bool
}

// scan sets l to what the line says, and returns whether it could be read. It uses
// the room for the tuple.
func (l *sightingLine) scan(line []byte, room *tupleDoc) bool {
	*l = sightingLine{Steps: l.Steps[:0]}
	s := scanner{rest: line}
	s.object(func(key []byte) {
		switch string(key) {
		case "type":
			l.Type = string(s.text())
		case "orig":
			*room = tupleDoc{}
			l.Orig = room
			s.object(func(key []byte) { field(&s, tupleFields, key, l.Orig) })
		case "steps":
			s.array(func() {
				var step stepDoc
				s.object(func(key []byte) { field(&s, stepFields, key, &step) })
				l.Steps = append(l.Steps, step)
			})
		default:
			field(&s, sightingFields, key, &l.sightingDoc)
		}
	})
	return !s.bad && len(s.rest) == 0
}

// fields say how the value of a key is read into a T.
type fields[T any] map[string]func(*scanner, *T)

func field[T any](s *scanner, all fields[T], key []byte, to *T) {
	if read := all[string(key)]; read != nil {
		read(s, to)
		return
	}
	s.bad = true
}

var sightingFields = fields[sightingDoc]{
	"time_ns":      func(s *scanner, d *sightingDoc) { number(s, &d.TimeNS) },
	"hop":          func(s *scanner, d *sightingDoc) { number(s, &d.Hop) },
	"skb":          func(s *scanner, d *sightingDoc) { s.value(&d.Skb) },
	"head":         func(s *scanner, d *sightingDoc) { s.value(&d.Head) },
	"gso_size":     func(s *scanner, d *sightingDoc) { number(s, &d.GSOSize) },
	"segments":     func(s *scanner, d *sightingDoc) { number(s, &d.Segments) },
	"payload_hash": func(s *scanner, d *sightingDoc) { number(s, &d.PayloadHash) },
	"eth_src":      func(s *scanner, d *sightingDoc) { s.value(&d.EthSrc) },
	"eth_dst":      func(s *scanner, d *sightingDoc) { s.value(&d.EthDst) },
	"ethertype":    func(s *scanner, d *sightingDoc) { s.value(&d.EtherType) },
	"vlan":         func(s *scanner, d *sightingDoc) { number(s, &d.VLAN) },
	"src":          func(s *scanner, d *sightingDoc) { s.value(&d.Src) },
	"dst":          func(s *scanner, d *sightingDoc) { s.value(&d.Dst) },
	"proto":        func(s *scanner, d *sightingDoc) { number(s, &d.Proto) },
	"sport":        func(s *scanner, d *sightingDoc) { number(s, &d.Sport) },
	"dport":        func(s *scanner, d *sightingDoc) { number(s, &d.Dport) },
	"length":       func(s *scanner, d *sightingDoc) { number(s, &d.Length) },
	"ttl":          func(s *scanner, d *sightingDoc) { number(s, &d.TTL) },
	"tos":          func(s *scanner, d *sightingDoc) { number(s, &d.TOS) },
	"ip_id":        func(s *scanner, d *sightingDoc) { number(s, &d.IPID) },
	"frag":         func(s *scanner, d *sightingDoc) { number(s, &d.Frag) },
	"frag_id":      func(s *scanner, d *sightingDoc) { number(s, &d.FragID) },
	"next_header":  func(s *scanner, d *sightingDoc) { number(s, &d.NextHdr) },
	"frag_next":    func(s *scanner, d *sightingDoc) { number(s, &d.FragNext) },
	"seq":          func(s *scanner, d *sightingDoc) { number(s, &d.Seq) },
	"ack":          func(s *scanner, d *sightingDoc) { number(s, &d.Ack) },
	"tcp_flags":    func(s *scanner, d *sightingDoc) { number(s, &d.TCPFlags) },
	"tsval":        func(s *scanner, d *sightingDoc) { number(s, &d.TSVal) },
	"icmp_type":    func(s *scanner, d *sightingDoc) { number(s, &d.ICMPType) },
	"icmp_code":    func(s *scanner, d *sightingDoc) { number(s, &d.ICMPCode) },
	"icmp_id":      func(s *scanner, d *sightingDoc) { number(s, &d.ICMPID) },
	"icmp_seq":     func(s *scanner, d *sightingDoc) { number(s, &d.ICMPSeq) },
	"payload_off":  func(s *scanner, d *sightingDoc) { number(s, &d.PayloadOff) },
	"packet_flags": func(s *scanner, d *sightingDoc) { number(s, &d.Flags) },
}

var tupleFields = fields[tupleDoc]{
	"src":    func(s *scanner, d *tupleDoc) { s.value(&d.Src) },
	"dst":    func(s *scanner, d *tupleDoc) { s.value(&d.Dst) },
	"sport":  func(s *scanner, d *tupleDoc) { number(s, &d.Sport) },
	"dport":  func(s *scanner, d *tupleDoc) { number(s, &d.Dport) },
	"status": func(s *scanner, d *tupleDoc) { number(s, &d.Status) },
}

var stepFields = fields[stepDoc]{
	"hop":      func(s *scanner, d *stepDoc) { number(s, &d.Hop) },
	"delta_ns": func(s *scanner, d *stepDoc) { number(s, &d.DeltaNS) },
}

// object reads an object; field reads the value of a key.
func (s *scanner) object(field func(key []byte)) {
	s.list('{', '}', func() {
		key := s.text()
		s.expect(':')
		if !s.bad {
			field(key)
		}
	})
}

// array reads an array; element reads one of its values.
func (s *scanner) array(element func()) { s.list('[', ']', element) }

func (s *scanner) list(open, end byte, one func()) {
	s.expect(open)
	for first := true; !s.bad; first = false {
		if len(s.rest) > 0 && s.rest[0] == end {
			s.rest = s.rest[1:]
			return
		}
		if !first {
			s.expect(',')
		}
		one()
	}
}

func (s *scanner) expect(c byte) {
	if len(s.rest) == 0 || s.rest[0] != c {
		s.bad = true
		return
	}
	s.rest = s.rest[1:]
}

// text reads a text; it is part of the line.
func (s *scanner) text() []byte {
	s.expect('"')
	n := bytes.IndexByte(s.rest, '"')
	if s.bad || n < 0 {
		s.bad = true
		return nil
	}
	t := s.rest[:n]
	for _, c := range t {
		if c < ' ' || c > '~' || c == '\\' {
			s.bad = true
		}
	}
	s.rest = s.rest[n+1:]
	return t
}

// value reads a text that is a value.
func (s *scanner) value(to encoding.TextUnmarshaler) {
	if t := s.text(); !s.bad && to.UnmarshalText(t) != nil {
		s.bad = true
	}
}

// mostDigits is how many every number of 64 bits may have.
const mostDigits = 19

func number[T uint8 | uint16 | uint32 | uint64](s *scanner, to *T) {
	n, v := 0, uint64(0)
	for n < len(s.rest) && '0' <= s.rest[n] && s.rest[n] <= '9' && n <= mostDigits {
		v = 10*v + uint64(s.rest[n]-'0')
		n++
	}
	if n == 0 || n > mostDigits || n > 1 && s.rest[0] == '0' || v > uint64(^T(0)) {
		s.bad = true
		return
	}
	*to, s.rest = T(v), s.rest[n:]
}
