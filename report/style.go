package report

import (
	"strconv"
	"time"
)

// Style is how text is set off. The zero value sets nothing off.
type Style struct {
	Head  string // starts a heading
	Good  string // starts what is as it should be
	Bad   string // starts what is not
	Note  string // starts what changed
	Reset string // ends each of them
}

// Colour is the style of a terminal.
var Colour = Style{Head: "\x1b[1m", Good: "\x1b[32m", Bad: "\x1b[31m", Note: "\x1b[33m", Reset: "\x1b[0m"}

// Duration returns d in its largest fitting unit, as in 0.4 µs, 12.3 ms, 123 s.
func Duration(d time.Duration) string { return string(appendDuration(nil, d)) }

// appendDuration writes at most 7 characters for what is below 1000 s, and
// nothing smaller than a tenth of a microsecond.
func appendDuration(b []byte, d time.Duration) []byte {
	if d < 0 {
		return appendDuration(append(b, '-'), -d)
	}
	unit, name := time.Microsecond, " µs"
	switch {
	case d >= 999950*time.Microsecond:
		unit, name = time.Second, " s"
	case d >= 999950*time.Nanosecond:
		unit, name = time.Millisecond, " ms"
	}
	v, digits := float64(d)/float64(unit), 1
	if v >= 99.95 {
		digits = 0
	}
	return append(strconv.AppendFloat(b, v, 'f', digits, 64), name...)
}

// appendPadded writes s and spaces up to width characters; s is ASCII.
func appendPadded(b []byte, s string, width int) []byte {
	b = append(b, s...)
	return appendSpaces(b, width-len(s))
}

func appendSpaces(b []byte, n int) []byte {
	for ; n > 0; n-- {
		b = append(b, ' ')
	}
	return b
}

// quantity returns n and the noun, in the plural unless n is 1.
func quantity(n uint64, noun string) string {
	s := strconv.FormatUint(n, 10) + " " + noun
	if n != 1 {
		s += "s"
	}
	return s
}
