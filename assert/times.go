package assert

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// times judges limits of what measure returns.
func (j *judge) times(what string, limits []Limit, measure func() ([]time.Duration, []int)) {
	if len(limits) == 0 || j.Blocked {
		return
	}
	ds, probes := measure()
	if len(ds) == 0 {
		if j.Holds() { // else it was said why
			j.fail(what, -1, "nothing could be measured")
		}
		return
	}
	slowest := probes[0]
	for i := range ds {
		if ds[i] == slices.Max(ds) {
			slowest = probes[i]
			break
		}
	}
	var got []string
	for _, l := range limits {
		v := quantile(l.Of, ds)
		got = append(got, fmt.Sprintf("%s %s", l.Of, rounded(v)))
		if !l.holds(float64(v)) {
			j.fail(what, slowest, "%s: want %s, is %s (of %d)", what, l, rounded(v), len(ds))
		}
	}
	j.say(what + " " + strings.Join(got, ", "))
}

func (j *judge) latencies() (ds []time.Duration, probes []int) {
	for i := range j.Probes {
		if f := j.Probes[i].Forward; f != nil && j.got(&j.Probes[i]) {
			ds, probes = append(ds, f.Duration()), append(probes, i)
		}
	}
	return ds, probes
}

func (j *judge) roundTrips() (ds []time.Duration, probes []int) {
	for i := range j.Probes {
		if a := j.Probes[i].Answer; a != nil && j.got(&j.Probes[i]) {
			ds, probes = append(ds, a.RTT), append(probes, i)
		}
	}
	return ds, probes
}

// rounded returns d with three digits or so.
func rounded(d time.Duration) string {
	unit := time.Duration(1)
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit).String()
}
