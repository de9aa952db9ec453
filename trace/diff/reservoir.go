package diff

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"
)

// mostTimes bounds what is kept of the times of a course.
const mostTimes = 4096

// reservoir keeps a random sample of the times that it is given (Vitter, Random
// Sampling with a Reservoir, 1985: algorithm R). The same times always make the
// same sample.
type reservoir struct {
	seen   uint64
	kept   []timed
	random *rand.Rand
}

type timed struct {
	at   uint64 // its place in the order of arrival
	time time.Duration
}

func newReservoir() *reservoir { return &reservoir{random: rand.New(rand.NewPCG(1, 2))} }

func (r *reservoir) add(d time.Duration) {
	t := timed{r.seen, d}
	r.seen++
	if len(r.kept) < mostTimes {
		r.kept = append(r.kept, t)
	} else if i := r.random.Uint64N(r.seen); i < mostTimes {
		r.kept[i] = t
	}
}

// nanoseconds returns the sample in the order of arrival. A time that clocks which
// disagree made negative is that of no time; it is at least 1, so that ratios exist.
func (r *reservoir) nanoseconds() []float64 {
	slices.SortFunc(r.kept, func(a, b timed) int { return cmp.Compare(a.at, b.at) })
	out := make([]float64, len(r.kept))
	for i, t := range r.kept {
		out[i] = max(1, float64(t.time))
	}
	return out
}
