package result

import (
	"math"
	"strconv"
	"strings"
)

// Figure returns x of that unit with three digits, rates and times with a prefix, as in
// 5.21 Mpps, 132 ns/packet, 13.1 µs.
func Figure(x float64, unit string) string {
	prefix := ""
	switch unit {
	case "pps", "bit/s", "B/s", "packets", "connections/s", "transactions/s", "1/s":
		for _, p := range []string{"k", "M", "G", "T"} {
			if math.Abs(x) < 999.5 {
				break
			}
			x, prefix = x/1000, p
		}
	case "ns":
		for _, u := range []string{"µs", "ms", "s"} {
			if math.Abs(x) < 999.5 {
				break
			}
			x, unit = x/1000, u
		}
	}
	return Digits(x) + " " + prefix + unit
}

// Range returns the figures of both ends of an interval, the unit once if it can be.
func Range(low, high float64, unit string) string {
	l, h := Figure(low, unit), Figure(high, unit)
	number, u, _ := strings.Cut(l, " ")
	if strings.HasSuffix(h, " "+u) {
		l = number
	}
	return l + " … " + h
}

// Digits returns x with three digits, and all that stand before the point.
func Digits(x float64) string {
	// The exponent is that of the rounded number: 9.996 is 10.0.
	_, exponent, _ := strings.Cut(strconv.FormatFloat(x, 'e', 2, 64), "e")
	e, _ := strconv.Atoi(exponent)
	if x == 0 {
		return "0"
	}
	return strconv.FormatFloat(x, 'f', min(max(2-e, 0), 6), 64)
}
