package chart

import (
	"encoding/xml"
	"fmt"
	"strings"
)

// Places in the image, in pixels.
const (
	width      = 760.0
	left       = 20.0
	right      = width - 20
	axisLeft   = 170.0 // of bars, whose names stand before it
	plotLeft   = 60.0  // of curves, whose ticks stand before it
	plotHeight = 200.0
)

// style gives the classes their colours, on light pages and on dark ones. The series
// are of Okabe and Ito's palette, which the colour-blind can tell apart.
const style = `svg{background:#fff;font:12px system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
text{fill:#1f2328}.m{fill:#59636e}.h{font-size:17px;font-weight:600}.t{font-size:14px;font-weight:600}
.bg{fill:#fff}.g{stroke:#d1d9e0;fill:none}.w{stroke:#1f2328;stroke-width:1.5;fill:none}
.s0{fill:#56a3d9}.c{fill:none;stroke-width:2;stroke-linejoin:round}
.c0{stroke:#0072b2}.c1{stroke:#d55e00}.c2{stroke:#009e73}.c3{stroke:#a8508b}.c4{stroke:#8a6d00}.c5{stroke:#4d4d4d}
@media (prefers-color-scheme:dark){svg{background:#0d1117}
text{fill:#f0f6fc}.m{fill:#9198a1}.bg{fill:#0d1117}.g{stroke:#3d444d}.w{stroke:#f0f6fc}
.s0{fill:#1f6fa8}.c0{stroke:#56b4e9}.c1{stroke:#f0883e}.c2{stroke:#2fc79a}.c3{stroke:#e39ac8}.c4{stroke:#f0e442}.c5{stroke:#b1bac4}}
`

// dashes tell curves apart where colours do not.
var dashes = []string{"", "7 3", "2 3", "9 3 2 3", "4 2", "12 4"}

// canvas collects the image from top to bottom.
type canvas struct {
	b strings.Builder
	y float64 // what is above is drawn
}

func (c *canvas) svg(title string) string {
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" width="%.0f" height="%.0f" role="img">
<title>%s</title>
<style>%s</style>
<rect class="bg" width="100%%" height="100%%"/>
%s</svg>
`, width, c.y+10, width, c.y+10, escaped(title), style, c.b.String())
}

// panel begins a panel with a title and, beside it, a note.
func (c *canvas) panel(title, note string) {
	c.y += 38
	c.text(left, c.y, "t", "start", title)
	c.text(right, c.y, "m", "end", note)
	c.y += 16
}

// text writes s on the base line y; anchor is start, middle or end.
func (c *canvas) text(x, y float64, class, anchor, s string) {
	fmt.Fprintf(&c.b, `<text x="%.1f" y="%.1f"%s text-anchor="%s">%s</text>`+"\n", x, y, classed(class), anchor, escaped(s))
}

func (c *canvas) rect(class string, x, y, w, h float64) {
	fmt.Fprintf(&c.b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f"%s/>`+"\n", x, y, w, h, classed(class))
}

func (c *canvas) line(class string, x1, y1, x2, y2 float64) {
	fmt.Fprintf(&c.b, `<path d="M%.1f %.1fL%.1f %.1f"%s/>`+"\n", x1, y1, x2, y2, classed(class))
}

// open begins a group whose name shows under the pointer.
func (c *canvas) open(class, title string) {
	fmt.Fprintf(&c.b, "<g%s><title>%s</title>\n", classed(class), escaped(title))
}

func (c *canvas) close() { c.b.WriteString("</g>\n") }

// ticksX draws the ticks of a horizontal axis at the height bottom, with lines up to
// top.
func (c *canvas) ticksX(x scale, top, bottom float64, label func(float64) string) {
	for _, v := range x.ticks() {
		c.line("g", x.at(v), top, x.at(v), bottom)
		c.text(x.at(v), bottom+15, "m", "middle", label(v))
	}
}

// curve is a line through points of x and y.
type curve struct {
	name   string
	note   string // behind the name
	points [][2]float64
	marks  bool // each point was measured and is to be seen
}

func (k *curve) add(x, y float64) { k.points = append(k.points, [2]float64{x, y}) }

// plot draws curves between two axes, and below them their names.
func (c *canvas) plot(x, y scale, curves []curve, label func(float64) string) {
	c.ticksX(x, c.y, c.y+plotHeight, label)
	for _, v := range y.ticks() {
		c.line("g", plotLeft, y.at(v), right-10, y.at(v))
		c.text(plotLeft-8, y.at(v)+4, "m", "end", short(v))
	}
	for i, k := range curves {
		c.open("", k.name)
		var d strings.Builder
		for j, p := range k.points {
			d.WriteByte("ML"[min(j, 1)])
			fmt.Fprintf(&d, "%.1f %.1f", x.at(p[0]), y.at(p[1]))
		}
		c.stroke(i, d.String())
		if k.marks {
			for _, p := range k.points {
				fmt.Fprintf(&c.b, `<circle cx="%.1f" cy="%.1f" r="3" class="c c%d"/>`+"\n", x.at(p[0]), y.at(p[1]), i%len(dashes))
			}
		}
		c.close()
	}
	c.y += plotHeight + 22
	for i, k := range curves {
		c.y += 18
		c.stroke(i, fmt.Sprintf("M%.1f %.1fh32", plotLeft, c.y-4))
		c.text(plotLeft+42, c.y, "", "start", shorten(k.name, 50))
		if k.note != "" {
			c.text(right-10, c.y, "m", "end", k.note)
		}
	}
}

// stroke draws the path of the i-th curve.
func (c *canvas) stroke(i int, d string) {
	dash := ""
	if s := dashes[i%len(dashes)]; s != "" {
		dash = ` stroke-dasharray="` + s + `"`
	}
	fmt.Fprintf(&c.b, `<path d="%s" class="c c%d"%s/>`+"\n", d, i%len(dashes), dash)
}

func classed(class string) string {
	if class == "" {
		return ""
	}
	return ` class="` + class + `"`
}

func escaped(s string) string {
	var b strings.Builder
	xml.EscapeText(&b, []byte(s)) // a Builder takes all
	return b.String()
}
