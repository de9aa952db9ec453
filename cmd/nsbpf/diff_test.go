package main

import "testing"

func TestEffect(t *testing.T) {
	for s, want := range map[string]float64{
		"5%": .05, "20 %": .2, "0.5%": .005, "1000%": 10,
		"": 0, "5": 0, "0%": 0, "-3%": 0, "%": 0, "NaN%": 0, "x%": 0, "1001%": 0,
	} {
		var f effect
		if err := f.Set(s); float64(f) != want || (err == nil) != (want > 0) {
			t.Errorf("%q is %g, error %v; want %g", s, float64(f), err, want)
		}
	}
}
