package report

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"

	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/trace"
	"github.com/nsbpf/nsbpf/trace/why"
)

// PathJSON writes Paths as JSON, one object a line, of schema nsbpf.path/1.
type PathJSON struct {
	enc   *json.Encoder
	lab   string
	epoch int64
	hops  map[hop.ID]hop.Hop
	doc   pathDoc
}

// NewPathJSON returns a PathJSON that writes to w. hops are all of the lab's;
// epoch is what to add to the sightings' times to have ns since 1970.
func NewPathJSON(w io.Writer, lab string, hops []hop.Hop, epoch int64) *PathJSON {
	j := &PathJSON{enc: encoder(w), lab: lab, epoch: epoch, hops: make(map[hop.ID]hop.Hop, len(hops))}
	for _, h := range hops {
		j.hops[h.ID] = h
	}
	return j
}

// encoder returns one that leaves > as it is: a shell reads it more often than
// a browser.
func encoder(w io.Writer) *json.Encoder {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e
}

type pathDoc struct {
	Schema     string    `json:"schema"`
	Lab        string    `json:"lab"`
	Path       uint64    `json:"path"`
	TimeNS     int64     `json:"time_ns"`
	Verdict    string    `json:"verdict"`
	End        string    `json:"end"`
	DurationNS int64     `json:"duration_ns"`
	Partial    bool      `json:"partial,omitempty"`
	GivenUp    bool      `json:"given_up,omitempty"`
	DroppedBy  int       `json:"dropped_by,omitempty"`
	DroppedAt  string    `json:"dropped_at,omitempty"`
	Attempt    int       `json:"attempt,omitempty"` // if it is not 1
	Again      uint64    `json:"again,omitempty"`
	Packet     packetDoc `json:"packet"`
	// Payload is given of a packet in pieces.
	Payload uint32     `json:"payload,omitempty"`
	Missing uint32     `json:"missing,omitempty"`
	Steps   []stepDoc  `json:"steps"`
	Merges  []mergeDoc `json:"merges,omitempty"`
	Next    []string   `json:"next,omitempty"`

	Round      uint64          `json:"round,omitempty"`
	RoundAt    string          `json:"round_at,omitempty"`
	After      uint64          `json:"after,omitempty"`
	Late       uint64          `json:"late,omitempty"`
	Drops      []dropDoc       `json:"drops,omitempty"`
	Passages   []passageDoc    `json:"passages,omitempty"`
	Rulings    []rulingDoc     `json:"rulings,omitempty"`
	Conclusion *why.Conclusion `json:"conclusion,omitempty"`
}

type mergeDoc struct {
	pieceDoc
	Step    int    `json:"step"`
	Hop     string `json:"hop"`
	DeltaNS int64  `json:"delta_ns"`
	Path    uint64 `json:"path"`
	AtStep  int    `json:"at_step"`
}

type pieceDoc struct {
	Offset uint32 `json:"offset"`
	Length uint32 `json:"length"`
}

type packetDoc struct {
	Headline  string   `json:"headline"`
	EtherType string   `json:"ethertype"`
	Proto     uint8    `json:"proto"`
	Length    uint32   `json:"length"`
	Segments  uint16   `json:"segments"`
	IPID      uint16   `json:"ip_id,omitempty"`
	ICMP      *icmpDoc `json:"icmp,omitempty"`
	TCP       *tcpDoc  `json:"tcp,omitempty"`
}

type icmpDoc struct {
	Type uint8   `json:"type"`
	Code uint8   `json:"code"`
	ID   *uint16 `json:"id,omitempty"`
	Seq  *uint16 `json:"seq,omitempty"`
}

type tcpDoc struct {
	Flags string `json:"flags"`
	Seq   uint32 `json:"seq"`
	Ack   uint32 `json:"ack"`
}

type stepDoc struct {
	Hop       string        `json:"hop"`
	Node      string        `json:"node"`
	Device    string        `json:"device"`
	Direction hop.Direction `json:"direction"`
	TimeNS    int64         `json:"time_ns"`
	Prev      *int          `json:"prev,omitempty"`
	DeltaNS   int64         `json:"delta_ns"`
	Match     string        `json:"match,omitempty"`
	Src       netip.Addr    `json:"src,omitzero"`
	Dst       netip.Addr    `json:"dst,omitzero"`
	Sport     uint16        `json:"sport,omitempty"`
	Dport     uint16        `json:"dport,omitempty"`
	TTL       uint8         `json:"ttl,omitempty"`
	NAT       []string      `json:"nat,omitempty"`
	Segments  uint16        `json:"segments,omitempty"` // this and what follows: of a packet in pieces
	Piece     *pieceDoc     `json:"piece,omitempty"`
	With      uint32        `json:"with,omitempty"`
	Verdict   string        `json:"verdict,omitempty"`
}

// Path writes p, and why it ended if that was concluded.
func (j *PathJSON) Path(p *trace.Path, c *why.Conclusion) error {
	first := &p.Steps[0].Sighting
	j.doc = pathDoc{
		Schema: "nsbpf.path/1", Lab: j.lab, Path: p.Number, TimeNS: j.time(first),
		Verdict: p.Verdict.String(), End: j.name(p.Steps[p.End].HopID()), DurationNS: int64(p.Duration()),
		Partial: p.Partial, GivenUp: p.GivenUp, DroppedBy: p.DroppedBy, Packet: newPacketDoc(first),
		Again: p.Again, Missing: p.Missing, Round: p.Round, After: p.After, Late: p.Late, Conclusion: c,
		Drops: j.doc.Drops[:0], Passages: j.doc.Passages[:0], Rulings: j.doc.Rulings[:0],
		Steps: j.doc.Steps[:0], Merges: j.doc.Merges[:0], Next: j.doc.Next[:0],
	}
	if p.Attempt > 1 {
		j.doc.Attempt = p.Attempt
	}
	if p.Round != 0 {
		j.doc.RoundAt = j.name(p.RoundAt)
	}
	if p.DroppedBy != 0 {
		j.doc.DroppedAt = j.name(p.DroppedAt)
	}
	for i := range p.Steps {
		if p.Steps[i].HopID() != hop.None {
			j.doc.Steps = append(j.doc.Steps, j.step(&p.Steps[i]))
		}
	}
	j.told(p)
	if len(j.doc.Steps) > 0 && (p.InPieces() || len(p.Merges) > 0) {
		j.pieces(p)
	}
	for _, id := range p.Next {
		j.doc.Next = append(j.doc.Next, j.hops[id].String())
	}
	return j.enc.Encode(&j.doc)
}

// pieces adds what each step carries of the packet.
func (j *PathJSON) pieces(p *trace.Path) {
	j.doc.Payload = p.Payload
	for i := range p.Steps {
		st, d := &p.Steps[i], &j.doc.Steps[i]
		d.Segments, d.With = st.Segments, st.With
		d.Piece = &pieceDoc{st.Offset, st.Length}
	}
	for _, m := range p.Merges {
		j.doc.Merges = append(j.doc.Merges, mergeDoc{
			pieceDoc{m.Offset, m.Length}, m.Step, j.hops[m.Hop].String(), int64(m.Delta), m.Path, m.AtStep,
		})
	}
}

func (j *PathJSON) time(s *collector.Sighting) int64 { return int64(s.TimeNS) + j.epoch }

func (j *PathJSON) step(st *trace.Step) stepDoc {
	h := j.hops[st.HopID()]
	d := stepDoc{
		Hop: h.String(), Node: h.Node, Device: h.Device, Direction: h.Direction,
		TimeNS: j.time(&st.Sighting), DeltaNS: int64(st.Delta), Match: st.Match.String(),
		Src: st.Src(), Dst: st.Dst(), Sport: st.Packet.Sport, Dport: st.Packet.Dport, TTL: st.Packet.TTL,
		NAT: st.Change.Words(),
	}
	if st.Prev >= 0 {
		d.Prev = &st.Prev
	}
	if st.Verdict != trace.LastSeen {
		d.Verdict = st.Verdict.String()
	}
	return d
}

func newPacketDoc(s *collector.Sighting) packetDoc {
	p := &s.Packet
	d := packetDoc{
		Headline: Headline(s), EtherType: fmt.Sprintf("0x%04x", p.EtherType), Proto: p.Proto,
		Length: p.Len, Segments: s.Segments, IPID: p.IPID,
	}
	switch {
	case !s.IsIP() || s.IsFragment():
	case p.Proto == collector.ProtoTCP:
		d.TCP = &tcpDoc{Flags: string(appendTCPFlags(nil, p.TCPFlags)), Seq: p.Seq, Ack: p.Ack}
	case icmpName(s) != "":
		d.ICMP = &icmpDoc{Type: p.ICMPType, Code: p.ICMPCode}
		if s.IsEcho() {
			d.ICMP.ID, d.ICMP.Seq = &p.ICMPID, &p.ICMPSeq
		}
	}
	return d
}
