package bench

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestQuantile(t *testing.T) {
	// The values are R's: quantile(c(1, 2, 4, 8), c(0, .25, .5, .75, 1), type = 7).
	xs := []float64{8, 1, 4, 2}
	for q, want := range map[float64]float64{0: 1, 0.25: 1.75, 0.5: 3, 0.75: 5, 1: 8} {
		if got := Quantile(xs, q); got != want {
			t.Errorf("Quantile(%v, %v) = %v, want %v", xs, q, got, want)
		}
	}
	if diff := cmp.Diff([]float64{8, 1, 4, 2}, xs); diff != "" {
		t.Errorf("Quantile changed its argument:\n%s", diff)
	}
	if got := Quantile(nil, 0.5); got != 0 {
		t.Errorf("Quantile of nothing = %v, want 0", got)
	}
}

// recorder notes what Interleave does.
type recorder struct{ log []string }

func (r *recorder) variant(name string) Variant {
	return Variant{Name: name, Enter: func(context.Context) (func() error, error) {
		r.log = append(r.log, "+"+name)
		return func() error { r.log = append(r.log, "-"+name); return nil }, nil
	}}
}

func (r *recorder) load(name string, rates ...float64) Load {
	return Load{Name: name, Unit: "x", Run: func(context.Context, time.Duration) (Sample, error) {
		r.log = append(r.log, name)
		s := Sample{Rate: rates[0], CPU: 1}
		rates = rates[1:]
		return s, nil
	}}
}

func TestInterleave(t *testing.T) {
	var r recorder
	load := r.load("l", 100, 100 /* warm-up */, 10, 20, 30, 40)
	got, err := Interleave(t.Context(), Plan{Rounds: 2}, []Load{load}, []Variant{r.variant("a"), r.variant("b")})
	if err != nil {
		t.Fatal(err)
	}
	// The second round begins with the other variant.
	want := []Series{
		{Load: "l", Unit: "x", Variant: "a", Samples: []Sample{{20, 1}, {30, 1}}},
		{Load: "l", Unit: "x", Variant: "b", Samples: []Sample{{10, 1}, {40, 1}}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("series (-want +got):\n%s", diff)
	}
	order := fmt.Sprint(r.log)
	if want := "[+a l -a +b l -b +b l -b +a l -a +a l -a +b l -b]"; order != want {
		t.Errorf("order %s, want %s", order, want)
	}
}

func TestInterleaveLeavesAfterFailure(t *testing.T) {
	var r recorder
	boom := errors.New("boom")
	load := Load{Name: "l", Run: func(context.Context, time.Duration) (Sample, error) { return Sample{}, boom }}
	_, err := Interleave(t.Context(), Plan{Rounds: 1}, []Load{load}, []Variant{r.variant("a")})
	if !errors.Is(err, boom) {
		t.Errorf("error %v, want boom", err)
	}
	if diff := cmp.Diff([]string{"+a", "-a"}, r.log); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}

func TestSummarise(t *testing.T) {
	series := []Series{
		{Load: "l", Variant: "base", Samples: []Sample{{10, 2}, {20, 2}, {40, 2}}},
		// Half the rate of the same round, whatever the round was like.
		{Load: "l", Variant: "half", Samples: []Sample{{5, 4}, {10, 4}, {20, 4}}},
		{Load: "m", Variant: "none yet"},
	}
	want := []Summary{
		{Load: "l", Variant: "base", Samples: 3, Rate: 20, CPU: 2, RateRatio: 1, CPURatio: 1, Spread: [2]float64{1, 1}},
		{Load: "l", Variant: "half", Samples: 3, Rate: 10, CPU: 4, RateRatio: 0.5, CPURatio: 2, Spread: [2]float64{0.5, 0.5}},
	}
	if diff := cmp.Diff(want, Summarise(series)); diff != "" {
		t.Errorf("summaries (-want +got):\n%s", diff)
	}
}
