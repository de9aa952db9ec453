package recording

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/trace"
)

// capture writes a capture file: an interface for each hop, a packet at each step
// of a Path, and the lines. What is shown of a packet:
//
//   - its bytes, from the snap of the step, else the headers that are known;
//   - packet id: the Path's number, the same at all steps;
//   - flags: whether it came in or went out;
//   - verdict: that of a tc or XDP program which did to it what was done. A packet
//     that was dropped at the hop, or behind it before the next, by whatever, has
//     that of a program that drops (TC_ACT_SHOT, XDP_DROP);
//   - drop count: the sightings lost at the hop since the packet before;
//   - comment: at the Path's end, what the caller says.
type capture struct {
	start  Start
	out    io.Writer
	ng     *pcapgo.NgWriter
	lines  *Writer
	text   bytes.Buffer // of lines
	block  []byte
	index  map[hop.ID]int // of the interface
	bare   map[hop.ID]bool
	snaps  *snaps
	sorted blocks
	lost   map[hop.ID]*losses
	until  uint64 // all before was told
}

// losses are the sightings lost at a hop: as far as is known, and as far as the
// packets told.
type losses struct{ known, told uint64 }

func newCapture(w io.Writer, start Start, kept *snaps) (*capture, error) {
	c := &capture{
		start: start, out: w, snaps: kept,
		index: make(map[hop.ID]int), bare: make(map[hop.ID]bool), lost: make(map[hop.ID]*losses),
	}
	for _, id := range start.Bare {
		c.bare[id] = true
	}
	if err := c.interfaces(); err != nil {
		return nil, err
	}
	var err error
	if c.lines, err = NewWriter(&c.text, start); err != nil {
		return nil, err
	}
	return c, c.writeLines()
}

// interfaces begins the section.
func (c *capture) interfaces() (err error) {
	if len(c.start.Hops) == 0 {
		return errors.New("a capture file needs a hop")
	}
	for i, h := range c.start.Hops {
		in := c.face(h)
		if i == 0 {
			// Of its own buffer nothing may be left when lines are written.
			c.ng, err = pcapgo.NewNgWriterInterface(struct{ io.Writer }{c.out}, in, pcapgo.NgWriterOptions{
				SectionInfo: pcapgo.NgSectionInfo{
					OS: "Linux " + c.start.Kernel, Application: "nsbpf " + c.start.Version,
					Comment: strings.Join(append([]string{"nsbpf"}, c.start.Args...), " "),
				},
			})
		} else {
			_, err = c.ng.AddInterface(in)
		}
		if err != nil {
			return err
		}
		c.index[h.ID] = i
		c.lost[h.ID] = &losses{}
	}
	return nil
}

// face describes a hop as an interface.
func (c *capture) face(h hop.Hop) pcapgo.NgInterface {
	in := pcapgo.NgInterface{
		Name: h.Place() + " " + h.Direction.Short(), Description: "lab " + c.start.Lab + ", " + h.Kind.String(),
		LinkType: layers.LinkTypeEthernet, Filter: c.start.Expr, OS: "Linux " + c.start.Kernel,
		SnapLength: longestHeaders,
	}
	if h.Layer == hop.XDP {
		in.Name = h.Place() + " xdp"
	}
	if c.start.SnapLen > 0 {
		in.SnapLength = uint32(max(c.start.SnapLen+tagLen, longestHeaders))
	}
	if c.bare[h.ID] {
		in.LinkType = layers.LinkTypeRaw
	}
	return in
}

// Write writes the lines of e, and keeps what is shown of it until it has its turn.
func (c *capture) Write(e Event) error {
	if err := c.lines.Write(e); err != nil {
		return err
	}
	if err := c.writeLines(); err != nil {
		return err
	}
	switch {
	case e.Snaps != nil:
		for i := range e.Snaps {
			c.snaps.keep(&e.Snaps[i])
		}
	case e.Path != nil && e.Path.Joined != nil:
		c.path(e.Path)
	case e.Counts != nil:
		c.count(e.Counts)
	case e.End != nil:
		c.count(&e.End.Ledgers)
		return errors.Join(c.release(forever), c.statistics(&e.End.Ledgers))
	}
	if e.Input == nil {
		return c.release(0)
	}
	c.until = max(c.until, e.Input.Until)
	return c.release(max(c.until, sortWindow) - sortWindow)
}

// finish writes what is still kept.
func (c *capture) finish() error { return errors.Join(c.release(forever), c.ng.Flush()) }

// writeLines writes the lines that were made.
func (c *capture) writeLines() error {
	c.block = appendLines(c.block[:0], c.text.Bytes())
	c.text.Reset()
	if err := c.ng.Flush(); err != nil {
		return err
	}
	_, err := c.out.Write(c.block)
	return err
}

func (c *capture) count(l *collector.Ledgers) {
	for _, h := range l.Hops {
		if at := c.lost[h.Hop.ID]; at != nil {
			at.known = h.Lost
		}
	}
}

// path keeps the packets of p. A step at no hop of the lab is not shown.
func (c *capture) path(p *Path) {
	for i := range p.Joined.Steps {
		st := &p.Joined.Steps[i]
		at, ok := c.index[st.HopID()]
		if !ok {
			continue
		}
		b := block{time: st.TimeNS, at: at, path: p.Joined.Number, length: st.Packet.Len}
		b.dropped = st.Verdict == trace.Dropped || p.Joined.Verdict == trace.Dropped && i == p.Joined.End
		if i == p.Joined.End {
			b.comment = p.Comment
		}
		b.bytes = c.bytes(st, &b.length)
		c.sorted.push(b)
	}
}

// bytes returns those of the packet at st, and sets how many it has.
func (c *capture) bytes(st *trace.Step, length *uint32) []byte {
	bare := c.bare[st.HopID()]
	snap, ok := c.snaps.take(keyOf(&st.Sighting))
	if !ok {
		b := appendHeaders(make([]byte, 0, longestHeaders), &st.Packet, bare)
		if !bare && st.Packet.Flags&bpf.PacketVLAN != 0 {
			*length += tagLen
		}
		return b[:min(len(b), int(*length))]
	}
	*length = max(snap.Length, uint32(len(snap.Bytes)))
	if bare {
		return snap.Bytes
	}
	b, added := tagged(snap.Bytes, &st.Packet)
	if added {
		*length += tagLen
	}
	return b
}

// release writes the packets up to a time, and as many more as are too many.
func (c *capture) release(until uint64) error {
	for c.sorted.due(until) {
		b := c.sorted.pop()
		if err := c.packet(&b); err != nil {
			return err
		}
	}
	return nil
}

func (c *capture) packet(b *block) error {
	h := c.start.Hops[b.at]
	flags := pcapgo.NgEpbFlags{Direction: pcapgo.NgEpbFlagDirectionInbound}
	if h.Direction == hop.Egress {
		flags.Direction = pcapgo.NgEpbFlagDirectionOutbound
	}
	opts := pcapgo.NgPacketOptions{PacketID: &b.path, Flags: &flags, Verdicts: []pcapgo.NgEpbVerdict{verdict(h, b.dropped)}}
	if b.comment != "" {
		opts.Comments = []string{b.comment}
	}
	if l := c.lost[h.ID]; l.known > l.told {
		n := l.known - l.told
		opts.DropCount, l.told = &n, l.known
	}
	return c.ng.WritePacketWithOptions(gopacket.CaptureInfo{
		Timestamp: c.time(b.time), CaptureLength: len(b.bytes), Length: int(b.length), InterfaceIndex: b.at,
	}, b.bytes, opts)
}

func (c *capture) time(ns uint64) time.Time { return time.Unix(0, int64(ns)+c.start.EpochNS) }

// Return codes of programs (uapi/linux/pkt_cls.h and bpf.h).
const (
	tcOK, tcShot     = 0, 2
	xdpDrop, xdpPass = 1, 2
)

func verdict(h hop.Hop, dropped bool) pcapgo.NgEpbVerdict {
	kind, code := pcapgo.NgEpbVerdictTypeLinuxeBPFTC, uint64(tcOK)
	switch {
	case h.Layer == hop.XDP && dropped:
		kind, code = pcapgo.NgEpbVerdictTypeLinuxeBPFXDP, xdpDrop
	case h.Layer == hop.XDP:
		kind, code = pcapgo.NgEpbVerdictTypeLinuxeBPFXDP, xdpPass
	case dropped:
		code = tcShot
	}
	return pcapgo.NgEpbVerdict{Type: kind, Data: binary.LittleEndian.AppendUint64(nil, code)}
}

// statistics writes for each interface how many packets were seen and lost.
func (c *capture) statistics(l *collector.Ledgers) error {
	for _, h := range l.Hops {
		i, ok := c.index[h.Hop.ID]
		if !ok {
			continue
		}
		if err := c.ng.WriteInterfaceStats(i, pcapgo.NgInterfaceStatistics{
			LastUpdate: c.time(c.until), PacketsReceived: h.Seen, PacketsDropped: h.Lost,
		}); err != nil {
			return err
		}
	}
	return nil
}
