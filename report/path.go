package report

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/trace"
	"github.com/nsbpf/nsbpf/trace/why"
)

// PathText writes Paths as blocks of lines, one line a hop, in columns that are
// the same for all Paths of a lab.
type PathText struct {
	w     io.Writer
	style Style
	hops  map[hop.ID]hop.Hop
	place int // width of the longest place
	buf   []byte

	path  *trace.Path // the one being written
	why   *why.Conclusion
	lines []line
	above int // the last line that was written
}

// line is what was seen of a Path at a hop: the packet, or pieces of it.
type line struct {
	hop       hop.ID
	parent    int // the line it comes from, or -1
	first     int // step
	last      int // the latest step
	steps     int
	with      uint32 // other packets that were merged
	match     trace.Match
	verdict   trace.Verdict
	carried   uint64 // bytes of the packet
	delivered uint64 // likewise; or they left the lab
}

// NewPathText returns a PathText that writes to w. hops are all of the lab's.
func NewPathText(w io.Writer, hops []hop.Hop, style Style) *PathText {
	t := &PathText{w: w, style: style, hops: make(map[hop.ID]hop.Hop, len(hops))}
	for _, h := range hops {
		t.hops[h.ID] = h
		t.place = max(t.place, len(h.Place()))
	}
	return t
}

// Path writes p in one call of the writer, and why it ended if that was concluded.
func (t *PathText) Path(p *trace.Path, c *why.Conclusion) error {
	t.path, t.why, t.above = p, c, -1
	t.lines = appendLines(t.lines[:0], p)
	t.buf = append(t.buf[:0], t.style.Head...)
	t.buf = append(t.buf, '#')
	t.buf = strconv.AppendUint(t.buf, p.Number, 10)
	t.buf = appendHeadline(append(t.buf, ' '), &p.Steps[0].Sighting)
	t.buf = append(t.buf, t.style.Reset...)
	if p.Attempt > 1 {
		t.attempt()
	}
	if p.After > 0 {
		t.note(t.style.Note, "round again after #", strconv.FormatUint(p.After, 10))
	}
	if p.Late > 0 {
		t.note(t.style.Note, "the end of #", strconv.FormatUint(p.Late, 10))
	}
	t.buf = append(t.buf, '\n')
	if p.Partial && p.After == 0 {
		t.say("  … on its way already when it was first seen")
	}
	t.passages(-1)
	for i := range t.lines {
		if t.lines[i].parent < 0 && t.lines[i].hop != hop.None {
			t.branch(i)
		}
	}
	t.end()
	t.path, t.why = nil, nil
	_, err := t.w.Write(t.buf)
	return err
}

// attempt says how often the segment was sent.
func (t *PathText) attempt() {
	before := ""
	if t.path.Again > 0 {
		before = " after #" + strconv.FormatUint(t.path.Again, 10)
	}
	t.note(t.style.Note, "attempt "+strconv.Itoa(t.path.Attempt), before)
}

// appendLines adds p's lines. No part of a packet is at a hop twice.
func appendLines(ls []line, p *trace.Path) []line {
	at := func(id hop.ID) int {
		for i := range ls {
			if ls[i].hop == id {
				return i
			}
		}
		return -1
	}
	for i := range p.Steps {
		st := &p.Steps[i]
		k := at(st.HopID())
		if k < 0 {
			k = len(ls)
			parent := -1
			if st.Prev >= 0 {
				parent = at(p.Steps[st.Prev].HopID())
			}
			ls = append(ls, line{hop: st.HopID(), parent: parent, first: i, last: i})
		}
		l := &ls[k]
		l.steps++
		l.with += st.With
		l.match = max(l.match, st.Match)
		l.carried += uint64(st.Length)
		if st.Verdict != trace.LastSeen {
			l.verdict = max(l.verdict, st.Verdict)
			l.delivered += uint64(st.Length)
		}
		if st.TimeNS >= p.Steps[l.last].TimeNS {
			l.last = i
		}
	}
	return ls
}

// branch writes line i and all that come from it.
func (t *PathText) branch(i int) {
	t.line(i)
	for k := i + 1; k < len(t.lines); k++ {
		if t.lines[k].parent == i {
			t.branch(k)
		}
	}
}

func (t *PathText) line(i int) {
	l := &t.lines[i]
	st := &t.path.Steps[l.first]
	h := t.hops[l.hop]
	t.buf = append(t.buf, "  "...)
	t.buf = appendPadded(t.buf, h.Place(), t.place+2)
	t.buf = appendPadded(t.buf, side(h), 5)
	t.buf = appendDelta(t.buf, st)

	if l.parent >= 0 && l.parent != t.above {
		t.note("", "after ", t.hops[t.lines[l.parent].hop].String())
	}
	switch {
	case st.Change.Readdressed():
		t.note(t.style.Note, t.ends(st), t.translations(l, st.Change))
	case l.first == 0 && t.readdressed():
		t.note("", t.ends(st), "")
	}
	t.pieces(l)
	if l.match > trace.MatchSkb && !(l.match == trace.MatchSegments && l.steps > 1) {
		t.note("", "by ", l.match.String())
	}
	t.verdict(l)
	t.buf = append(bytes.TrimRight(t.buf, " "), '\n')
	t.above = i
	t.passages(l.first)
}

// side returns the hop's direction, or xdp, which is before what comes in.
func side(h hop.Hop) string {
	if h.Layer == hop.XDP {
		return h.Layer.String()
	}
	return h.Direction.Short()
}

// pieces says how the packet was cut or put together at l.
func (t *PathText) pieces(l *line) {
	first, last := &t.path.Steps[l.first], &t.path.Steps[l.last]
	switch {
	case l.steps > 1:
		over := " over " + Duration(time.Duration(last.TimeNS-first.TimeNS))
		t.note("", "in "+quantity(uint64(l.steps), noun(last)), over)
	case l.parent >= 0 && first.Length > t.path.Steps[t.lines[l.parent].first].Length && l.with == 0:
		t.note("", "put together", "")
	}
	if l.with > 0 {
		t.note("", "with ", quantity(uint64(l.with), "other packet"))
	}
}

// noun returns what a piece of a packet is.
func noun(st *trace.Step) string {
	switch {
	case st.Segments > 1:
		return "packet"
	case st.Packet.Proto == collector.ProtoTCP || st.Packet.Proto == collector.ProtoUDP && st.HasPorts():
		return "segment"
	}
	return "fragment"
}

func (t *PathText) verdict(l *line) {
	verb := ""
	switch l.verdict {
	case trace.Delivered:
		verb = "delivered, "
	case trace.LeftLab:
		verb = "left the lab, "
	default:
		return
	}
	if l.delivered < uint64(t.path.Payload) {
		verb = part(uint32(l.delivered), t.path.Payload) + verb
	}
	t.note(t.style.Good, verb, Duration(t.path.Since(l.last)))
}

// part returns "n of all B ".
func part(n, all uint32) string { return fmt.Sprintf("%d of %d B ", n, all) }

// deltaWidth is that of "+99.9 µs".
const deltaWidth = 8

func appendDelta(b []byte, st *trace.Step) []byte {
	if st.Prev < 0 {
		return appendSpaces(b, deltaWidth)
	}
	var d [24]byte
	text := appendDuration(append(d[:0], '+'), st.Delta)
	width := len(text)
	if st.Delta < 999950 {
		width-- // µ is two bytes
	}
	return append(appendSpaces(b, deltaWidth-width), text...)
}

// note adds a and b to the line.
func (t *PathText) note(style, a, b string) {
	t.buf = append(t.buf, "   "...)
	t.buf = append(t.buf, style...)
	t.buf = append(append(t.buf, a...), b...)
	if style != "" {
		t.buf = append(t.buf, t.style.Reset...)
	}
}

func (t *PathText) readdressed() bool {
	for i := range t.path.Steps {
		if t.path.Steps[i].Change.Readdressed() {
			return true
		}
	}
	return false
}

// ends returns the addresses of st, and the id of an echo if that is what changed.
func (t *PathText) ends(st *trace.Step) string {
	b := appendEnds(make([]byte, 0, 96), &st.Sighting)
	if st.Change&trace.EchoID != 0 {
		b = appendField(b, "id", uint64(st.Packet.ICMPID))
	}
	return string(b)
}

// end says what became of what was not delivered.
func (t *PathText) end() {
	p := t.path
	for i := range p.Merges {
		const most = 3
		if i == most {
			t.say("    and " + quantity(uint64(len(p.Merges)-most), "more piece"))
			break
		}
		t.merged(&p.Merges[i])
	}
	switch {
	case t.why != nil:
		t.explained()
	case p.Verdict == trace.LastSeen, p.Verdict == trace.Dropped:
		t.lastSeen("")
	case p.Verdict == trace.Unfinished:
		t.say("  … on its way when the trace ended, last seen at " + t.hops[p.Steps[p.End].HopID()].String() + ", " + Duration(p.Duration()))
	case p.Verdict == trace.PartlyDelivered && p.Missing > 0:
		t.lastSeen(part(p.Missing, p.Payload))
	case p.Verdict == trace.PartlyDelivered:
		t.say("  " + t.style.Bad + "✗ its last fragment was not seen" + t.style.Reset)
	}
}

// merged says where a piece went on.
func (t *PathText) merged(m *trace.Merge) {
	what := ""
	if m.Length < t.path.Payload {
		what = part(m.Length, t.path.Payload)
	}
	t.say("  → " + what + "merged into #" + strconv.FormatUint(m.Path, 10) + " at " + t.hops[m.Hop].String() + ", +" + Duration(m.Delta))
}

// say writes a line of its own.
func (t *PathText) say(s string) { t.buf = append(append(t.buf, s...), '\n') }
