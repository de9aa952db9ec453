package trace

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

// eachSeed runs test several times with every recording, and what its sightings
// are joined to when nothing is changed.
func eachSeed(t *testing.T, seeds uint64, test func(*testing.T, *rand.Rand, *recording, *joined)) {
	eachRecording(t, func(t *testing.T, r *recording) {
		plain := r.join(t, Auto, r.entries, rand.New(rand.NewPCG(0, 0)), still)
		for seed := range seeds {
			t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
				test(t, rand.New(rand.NewPCG(seed, 1)), r, plain)
			})
		}
	})
}

func (r *recording) same(t *testing.T, want, got *joined) {
	t.Helper()
	if d := gocmp.Diff(want.courses, got.courses); d != "" {
		t.Errorf("other Paths (-recorded +perturbed):\n%s", d)
	}
}

// Recorded sightings are joined to what was sent.
func TestRecordedIsTheTruth(t *testing.T) {
	eachRecording(t, func(t *testing.T, r *recording) {
		got := r.join(t, Auto, r.entries, rand.New(rand.NewPCG(1, 1)), still)
		got.checkWhole(t, r.count(r.entries, still))
		got.checkTruth(t)
		t.Logf("%d packets, %d sightings, %d Paths", len(r.packets), len(r.of), len(got.courses))
	})
}

// Batches of any size make the same Paths.
func TestRecordedInOtherBatches(t *testing.T) {
	eachSeed(t, 5, func(t *testing.T, random *rand.Rand, r *recording, want *joined) {
		r.same(t, want, r.join(t, Auto, r.entries, random, still))
	})
}

// Runs may come in any order, each before what is said to be complete.
func TestRecordedOutOfOrder(t *testing.T) {
	eachSeed(t, 5, func(t *testing.T, random *rand.Rand, r *recording, want *joined) {
		got := r.join(t, Auto, reordered(r.entries, random), random, still)
		got.checkWhole(t, r.count(r.entries, still))
		r.same(t, want, got)
	})
}

// reordered moves runs as far as what is said of the times before allows it.
func reordered(in []entry, random *rand.Rand) []entry {
	var said []entry
	var untils []uint64
	for _, e := range in {
		if e.Until != 0 {
			said = append(said, e)
			untils = append(untils, e.Until)
		}
	}
	between := make([][]entry, len(said)+1)
	for _, e := range in {
		if e.Run == nil {
			continue
		}
		// The first time that is beyond the run: it has to come before that is said.
		last, _ := slices.BinarySearch(untils, e.Run.TimeNS+1)
		k := max(last-random.IntN(3), 0)
		between[k] = append(between[k], e)
	}
	var out []entry
	for k, runs := range between {
		random.Shuffle(len(runs), func(a, b int) { runs[a], runs[b] = runs[b], runs[a] })
		out = append(out, runs...)
		if k < len(said) {
			out = append(out, said[k])
		}
	}
	return out
}

// Runs that are cut into shorter ones make the same Paths.
func TestRecordedInShorterRuns(t *testing.T) {
	eachSeed(t, 5, func(t *testing.T, random *rand.Rand, r *recording, want *joined) {
		cut := func() bool { return random.IntN(2) == 0 }
		if random.IntN(2) == 0 {
			cut = func() bool { return true }
		}
		r.same(t, want, r.join(t, Auto, shorter(r.entries, still, cut), random, still))
	})
}

// shorter cuts runs, and moves what is in them in time. The parts come in the place
// of the run.
func shorter(in []entry, move func(uint16) uint64, cut func() bool) []entry {
	var out []entry
	for _, e := range in {
		if e.Run == nil {
			out = append(out, e)
			continue
		}
		for _, part := range split(e.Run, move, cut) {
			out = append(out, entry{Run: part, Packet: e.Packet})
		}
	}
	return out
}

// Where clocks of two CPUs disagree, by no more than is allowed, the Paths are the
// same.
func TestRecordedOnSkewedClocks(t *testing.T) {
	eachSeed(t, 30, func(t *testing.T, random *rand.Rand, r *recording, _ *joined) {
		skew := uint64(r.withDefaults().Skew)
		ahead := make([]uint64, len(r.Hops))
		for i := range ahead {
			ahead[i] = skew * random.Uint64N(2) // each hop is on one of two CPUs
		}
		move := func(at uint16) uint64 { return ahead[at] }
		entries := shorter(r.entries, move, func() bool { return false })
		got := r.join(t, Auto, entries, random, move)
		got.checkWhole(t, r.count(entries, move))
		got.checkTruth(t)
	})
}

// What is lost makes nothing wrong of the rest: no Path is of two packets.
func TestRecordedWithLosses(t *testing.T) {
	eachSeed(t, 20, func(t *testing.T, random *rand.Rand, r *recording, _ *joined) {
		for _, id := range []Identity{Auto, Fingerprint} {
			chance := random.Float64() / 2
			entries := shorter(r.entries, still, func() bool { return random.IntN(2) == 0 })
			entries = slices.DeleteFunc(entries, func(e entry) bool { return e.Run != nil && random.Float64() < chance })
			got := r.join(t, id, entries, random, still)
			got.checkWhole(t, r.count(entries, still))
			got.checkUnmixed(t, false)
		}
	})
}

// Of a program that writes all twice each packet is two Paths, which have all of
// its sightings once.
func TestRecordedTwice(t *testing.T) {
	eachSeed(t, 3, func(t *testing.T, random *rand.Rand, r *recording, want *joined) {
		var entries []entry
		for _, e := range r.entries {
			entries = append(entries, e)
			if e.Run != nil {
				entries = append(entries, e)
			}
		}
		got := r.join(t, Auto, entries, random, still)
		got.checkWhole(t, r.count(entries, still))
		got.checkUnmixed(t, true)
		if len(got.courses) != 2*len(want.courses) {
			t.Errorf("%d Paths of sightings that are %d if given once", len(got.courses), len(want.courses))
		}
	})
}

// Where no two packets look the same, the fingerprint alone makes the same Paths.
func TestRecordedByFingerprint(t *testing.T) {
	eachSeed(t, 3, func(t *testing.T, random *rand.Rand, r *recording, want *joined) {
		got := r.join(t, Fingerprint, r.entries, random, still)
		got.checkWhole(t, r.count(r.entries, still))
		alike := r.alike()
		unique := func(g *joined) (out []course) {
			for _, c := range g.courses {
				if !slices.ContainsFunc(c.Serials, func(s int) bool { return alike[r.prints[s]] }) {
					c.InOrder = false
					out = append(out, c)
				}
			}
			return out
		}
		w, g := unique(want), unique(got)
		slices.SortFunc(w, func(a, b course) int { return cmp.Compare(a.Serials[0], b.Serials[0]) })
		if d := gocmp.Diff(w, g); d != "" {
			t.Errorf("other Paths (-auto +fingerprint):\n%s", d)
		}
		t.Logf("%d of %d Paths", len(w), len(want.courses))
	})
}
