package report

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/nsbpf/nsbpf/forward"
	"github.com/nsbpf/nsbpf/internal/hop"
)

// journeyText writes a Journey in the columns of [PathText].
type journeyText struct {
	strings.Builder
	style Style
	place int // width of the longest place
	j     *forward.Journey
}

// JourneyText writes j as a block, one line a hop, with what stands in its way
// where it stands, and the way back behind it.
func JourneyText(w io.Writer, j *forward.Journey, style Style) error {
	t := &journeyText{style: style, j: j}
	for way := j; way != nil; way = way.Back {
		for i := range way.Steps {
			t.place = max(t.place, len(way.Steps[i].Hop.Place()))
		}
	}
	t.way("predicted")
	if t.j = j.Back; t.j != nil {
		title := "and the answer"
		if t.j.From == "" {
			title = "and an answer"
		}
		t.way(title)
	}
	_, err := io.WriteString(w, t.String())
	return err
}

// way writes one direction.
func (t *journeyText) way(title string) {
	p := &t.j.Packet
	t.line(t.style.Head + title + ": " + journeyName(p) + t.style.Reset + "  " + strconv.Itoa(p.Length+etherHeader) + " B")
	t.obstacles(-1)
	for i := range t.j.Steps {
		t.step(i)
		t.obstacles(i)
	}
	switch end := t.j.End; {
	case end == forward.Lost:
		t.line("  ? how it goes on from " + t.j.At + " is not known")
	case len(t.j.Steps) == 0 && end == forward.Delivered:
		t.line("  " + t.style.Good + "delivered within " + t.j.At + t.style.Reset + ", by no hop")
	}
}

// etherHeader is what a packet at a hop is longer than its IP packet.
const etherHeader = 14

// journeyName returns a packet as headlines have it.
func journeyName(p *forward.Packet) string {
	names := icmpNames
	if p.Dst.Is6() {
		names = icmp6Names
	}
	proto := forward.ProtoName(p.Proto)
	if p.Proto == forward.ICMP || p.Proto == forward.ICMP6 {
		proto += " " + named(names, p.Type, p.Code)
	}
	return proto + " " + journeyEnds(p)
}

// journeyEnds returns "source > destination"; a port that the kernel chooses is
// left out.
func journeyEnds(p *forward.Packet) string {
	b := appendEnd(nil, p.Src, p.Sport, p.Sport != 0)
	b = append(b, " > "...)
	return string(appendEnd(b, p.Dst, p.Dport, p.Dport != 0))
}

func (t *journeyText) line(s string) { t.WriteString(strings.TrimRight(s, " ") + "\n") }

// step writes one hop.
func (t *journeyText) step(i int) {
	st := &t.j.Steps[i]
	b := appendPadded([]byte("  "), st.Hop.Place(), t.place+2)
	b = appendPadded(b, side(st.Hop), 5)
	var notes []string
	switch {
	case len(st.NAT) > 0:
		note := t.style.Note + journeyEnds(&st.Packet)
		for _, n := range st.NAT {
			note += "   " + n.Kind
			if n.By != nil {
				note += " by " + n.By.String()
			}
		}
		notes = append(notes, note+t.style.Reset)
	case i == 0 && t.translated():
		notes = append(notes, journeyEnds(&st.Packet))
	}
	if st.Route != "" {
		notes = append(notes, st.Route)
	}
	if i == len(t.j.Steps)-1 {
		switch t.j.End {
		case forward.Delivered:
			notes = append(notes, t.style.Good+"delivered"+t.style.Reset)
		case forward.LeftLab:
			notes = append(notes, t.style.Good+"leaves the lab"+t.style.Reset)
		}
	}
	t.line(string(b) + strings.Join(notes, "   "))
}

func (t *journeyText) translated() bool {
	for i := range t.j.Steps {
		if len(t.j.Steps[i].NAT) > 0 {
			return true
		}
	}
	return false
}

// obstacles writes those behind step i.
func (t *journeyText) obstacles(i int) {
	for k := range t.j.Obstacles {
		o := &t.j.Obstacles[k]
		if o.Step != i {
			continue
		}
		switch o.Effect {
		case forward.Stops:
			t.line("  " + t.style.Bad + "✗ " + o.Sentence + t.style.Reset)
		case forward.Unknown:
			t.line("  " + t.style.Note + "? " + o.Sentence + t.style.Reset)
		default:
			t.line("  · " + o.Sentence)
		}
		if o.Advice != "" {
			t.line("    " + o.Advice)
		}
	}
}

type journeyDoc struct {
	Schema string `json:"schema"`
	Lab    string `json:"lab"`
	wayDoc
	Back *wayDoc `json:"back,omitempty"`
}

type wayDoc struct {
	From      string             `json:"from"`
	Packet    forward.Packet     `json:"packet"`
	Headline  string             `json:"headline"`
	End       forward.End        `json:"end"`
	At        string             `json:"at"`
	Sure      bool               `json:"sure"`
	Steps     []placeDoc         `json:"steps"`
	Obstacles []forward.Obstacle `json:"obstacles"`
}

type placeDoc struct {
	Hop       string         `json:"hop"`
	Node      string         `json:"node"`
	Device    string         `json:"device"`
	Direction hop.Direction  `json:"direction"`
	Packet    forward.Packet `json:"packet"`
	NAT       []forward.NAT  `json:"nat,omitempty"`
	Route     string         `json:"route,omitempty"`
}

// JourneyJSON writes one object of schema nsbpf.journey/1.
func JourneyJSON(w io.Writer, lab string, j *forward.Journey) error {
	doc := journeyDoc{Schema: "nsbpf.journey/1", Lab: lab, wayDoc: newWayDoc(j)}
	if j.Back != nil {
		back := newWayDoc(j.Back)
		doc.Back = &back
	}
	if err := encoder(w).Encode(doc); err != nil {
		return fmt.Errorf("writing the way from %s: %w", j.From, err)
	}
	return nil
}

func newWayDoc(j *forward.Journey) wayDoc {
	d := wayDoc{
		From: j.From, Packet: j.Packet, Headline: journeyName(&j.Packet), End: j.End, At: j.At, Sure: j.Sure(),
		Steps: []placeDoc{}, Obstacles: append([]forward.Obstacle{}, j.Obstacles...),
	}
	for i := range j.Steps {
		st := &j.Steps[i]
		d.Steps = append(d.Steps, placeDoc{
			Hop: st.Hop.String(), Node: st.Hop.Node, Device: st.Hop.Device, Direction: st.Hop.Direction,
			Packet: st.Packet, NAT: st.NAT, Route: st.Route,
		})
	}
	return d
}
