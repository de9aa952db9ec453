package chart

import (
	"math"
	"strconv"
	"time"
)

// scale maps values to places in the image.
type scale struct {
	low, high float64 // values
	from, to  float64 // places
	log       bool
}

// linear returns a scale from low to high or a little more, so that it ends at a
// tick.
func linear(low, high, from, to float64) scale {
	s := scale{low, high, from, to, false}
	if !(high > low) {
		s.high = low + 1
	}
	step := s.step()
	s.high = math.Ceil(s.high/step-1e-9) * step
	return s
}

// logarithmic returns a scale of the decades' thirds around low and high, both above
// 0.
func logarithmic(low, high, from, to float64) scale {
	s := scale{low, high, from, to, true}
	s.low, s.high = 0, 0
	for e := -3; e < 19; e++ {
		for _, m := range []float64{1, 2, 5} {
			v := m * math.Pow10(e)
			if v <= low {
				s.low = v
			}
			if v >= high && s.high == 0 && v > s.low {
				s.high = v
			}
		}
	}
	return s
}

// at returns where v is.
func (s scale) at(v float64) float64 {
	part := (v - s.low) / (s.high - s.low)
	if s.log {
		part = math.Log(v/s.low) / math.Log(s.high/s.low)
	}
	return s.from + part*(s.to-s.from)
}

// step returns the distance of ticks, 1, 2 or 5 times a power of 10, 6 at most.
func (s scale) step() float64 {
	rough := (s.high - s.low) / 6
	unit := math.Pow10(int(math.Floor(math.Log10(rough))))
	for _, m := range []float64{1, 2, 5} {
		if rough <= m*unit {
			return m * unit
		}
	}
	return 10 * unit
}

// ticks returns the values to write along the scale.
func (s scale) ticks() []float64 {
	var all []float64
	if s.log {
		for e := int(math.Floor(math.Log10(s.low))); e <= int(math.Ceil(math.Log10(s.high))); e++ {
			for _, m := range []float64{1, 2, 5} {
				v := m * math.Pow10(e)
				narrow := s.high/s.low <= 100
				if v >= s.low*0.999 && v <= s.high*1.001 && (narrow || m == 1) {
					all = append(all, v)
				}
			}
		}
		return all
	}
	step := s.step()
	for i := 0; float64(i)*step <= s.high-s.low+step/1e6; i++ {
		all = append(all, s.low+float64(i)*step)
	}
	return all
}

// short returns v with three digits and a letter for thousands.
func short(v float64) string {
	letter := ""
	for _, l := range []string{"k", "M", "G", "T"} {
		if math.Abs(v) < 9999.5 && letter == "" || math.Abs(v) < 999.5 {
			break
		}
		v, letter = v/1000, l
	}
	digits := 3
	if math.Abs(v) >= 999.5 {
		digits = 4
	}
	v, _ = strconv.ParseFloat(strconv.FormatFloat(v, 'g', digits, 64), 64)
	return strconv.FormatFloat(v, 'f', -1, 64) + letter
}

// nanoseconds returns a duration with its unit, for an axis.
func nanoseconds(v float64) string {
	unit := "ns"
	for _, u := range []string{"µs", "ms", "s"} {
		if v < 999.5 {
			break
		}
		v, unit = v/1000, u
	}
	v, _ = strconv.ParseFloat(strconv.FormatFloat(v, 'g', 3, 64), 64)
	return strconv.FormatFloat(v, 'f', -1, 64) + " " + unit
}

func duration(d time.Duration) string { return nanoseconds(float64(d)) }
