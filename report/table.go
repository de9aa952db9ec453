package report

import (
	"io"
	"strings"
	"unicode/utf8"
)

// table writes rows in columns as wide as their widest cell. A column whose
// heading starts with > is aligned to the right; one without any text is left
// out.
type table struct {
	head []string
	rows [][]string
	bad  map[int]bool // rows to set off
}

func newTable(head ...string) *table { return &table{head: head, bad: map[int]bool{}} }

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

// setOff sets the last row off as bad.
func (t *table) setOff() { t.bad[len(t.rows)-1] = true }

// write writes the table with two spaces between columns and none at the end of
// a line.
func (t *table) write(w io.Writer, style Style) error {
	widths := t.widths()
	var b strings.Builder
	heading := make([]string, len(t.head))
	for i, h := range t.head {
		heading[i] = strings.TrimPrefix(h, ">")
	}
	b.WriteString(style.Head + t.line(heading, widths) + style.Reset + "\n")
	for i, r := range t.rows {
		line := t.line(r, widths)
		if t.bad[i] {
			line = style.Bad + line + style.Reset
		}
		b.WriteString(line + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (t *table) widths() []int {
	widths := make([]int, len(t.head))
	for _, r := range t.rows {
		for i, c := range r {
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	for i, h := range t.head {
		if widths[i] > 0 {
			widths[i] = max(widths[i], utf8.RuneCountInString(strings.TrimPrefix(h, ">")))
		}
	}
	return widths
}

func (t *table) line(cells []string, widths []int) string {
	var b strings.Builder
	for i, c := range cells {
		if widths[i] == 0 {
			continue
		}
		space := strings.Repeat(" ", max(0, widths[i]-utf8.RuneCountInString(c)))
		if strings.HasPrefix(t.head[i], ">") {
			b.WriteString(space + c)
		} else {
			b.WriteString(c + space)
		}
		b.WriteString("  ")
	}
	return strings.TrimRight(b.String(), " ")
}

// writeUnlessEmpty writes nothing, not even the heading, if there are no rows.
func (t *table) writeUnlessEmpty(w io.Writer, style Style) error {
	if len(t.rows) == 0 {
		return nil
	}
	return t.write(w, style)
}
