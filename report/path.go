package report

import (
	"bytes"
	"io"
	"strconv"

	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/trace"
)

// PathText writes Paths as blocks of lines, one line a hop, in columns that are
// the same for all Paths of a lab.
type PathText struct {
	w     io.Writer
	style Style
	hops  map[hop.ID]hop.Hop
	place int // width of the longest place
	buf   []byte

	path *trace.Path // the one being written
	line int         // step of the last line
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

// Path writes p in one call of the writer.
func (t *PathText) Path(p *trace.Path) error {
	t.path, t.line = p, -1
	t.buf = append(t.buf[:0], t.style.Head...)
	t.buf = append(t.buf, '#')
	t.buf = strconv.AppendUint(t.buf, p.Number, 10)
	t.buf = appendHeadline(append(t.buf, ' '), &p.Steps[0].Sighting)
	t.buf = append(append(t.buf, t.style.Reset...), '\n')
	if p.Partial {
		t.lines("  … on its way already when it was first seen")
	}
	t.branch(0)
	if p.Verdict == trace.LastSeen {
		t.lastSeen()
	}
	t.path = nil
	_, err := t.w.Write(t.buf)
	return err
}

// branch writes step i and all that come from it.
func (t *PathText) branch(i int) {
	t.step(i)
	for k := i + 1; k < len(t.path.Steps); k++ {
		if t.path.Steps[k].Prev == i {
			t.branch(k)
		}
	}
}

func (t *PathText) step(i int) {
	st := &t.path.Steps[i]
	h := t.hops[st.HopID()]
	t.buf = append(t.buf, "  "...)
	t.buf = appendPadded(t.buf, h.Place(), t.place+2)
	t.buf = appendPadded(t.buf, h.Direction.Short(), 5)
	t.buf = appendDelta(t.buf, st)

	if st.Prev != t.line {
		t.note("", "after ", t.hops[t.path.Steps[st.Prev].HopID()].String())
	}
	switch {
	case st.Change.Readdressed():
		t.note(t.style.Note, t.ends(st), words(st.Change))
	case i == 0 && t.readdressed():
		t.note("", t.ends(st), "")
	}
	if st.Match > trace.MatchSkb {
		t.note("", "by ", st.Match.String())
	}
	switch st.Verdict {
	case trace.Delivered:
		t.note(t.style.Good, "delivered, ", Duration(t.path.Since(i)))
	case trace.LeftLab:
		t.note(t.style.Good, "left the lab, ", Duration(t.path.Since(i)))
	}
	t.buf = append(bytes.TrimRight(t.buf, " "), '\n')
	t.line = i
}

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

func words(c trace.Change) string {
	if s := c.String(); s != "" {
		return "   " + s
	}
	return ""
}

// lastSeen says where the Path ended, and what is known of why.
func (t *PathText) lastSeen() {
	p := t.path
	st := &p.Steps[p.End]
	h := t.hops[st.HopID()]
	t.lines("  " + t.style.Bad + "✗ last seen at " + h.String() + t.style.Reset + ", " + Duration(p.Duration()))
	switch {
	case p.GivenUp:
		t.lines("    given up: too many packets were on their way at once")
	case len(p.Next) > 0:
		t.lines("    next hop would have been " + t.oneOf(p.Next))
	case st.Addressed() && st.IsGroup():
		t.lines("    no node that it came to is known to own " + st.Dst().String())
	case st.Addressed() && h.Direction == hop.Ingress:
		t.lines("    " + st.Dst().String() + " is not known to be an address of " + h.Node + ", which does not forward")
	}
}

// oneOf names up to three hops.
func (t *PathText) oneOf(ids []hop.ID) string {
	const most = 3
	var s string
	for i, id := range ids {
		switch {
		case i == 0:
		case i == most:
			return s + " or one of " + strconv.Itoa(len(ids)-most) + " more"
		case i == len(ids)-1:
			s += " or "
		default:
			s += ", "
		}
		s += t.hops[id].String()
	}
	return s
}

func (t *PathText) lines(s string) { t.buf = append(append(t.buf, s...), '\n') }
