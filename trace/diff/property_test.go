package diff

import (
	"testing"
)

// Of the same traffic, something may be found in 5 % of comparisons.
func TestSameTraffic(t *testing.T) {
	for name, tt := range map[string]struct {
		flows   []behaviour
		packets int
		seeds   int
	}{
		"usual":  {usual(), 200, 1000},
		"few":    {usual(), 40, 1000},
		"bursty": {bursty(), 800, 150},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wrong := map[Change]int{}
			found := 0
			for seed := range uint64(tt.seeds) {
				d := Compare(profile(lab, tt.flows, tt.packets, 2*seed), profile(lab, tt.flows, tt.packets, 2*seed+1), Options{})
				if len(d.Findings) > 0 {
					found++
				}
				for _, f := range d.Findings {
					wrong[f.Change]++
				}
			}
			t.Logf("found something in %d of %d: %v", found, tt.seeds, wrong)
			if found > tt.seeds/20 {
				t.Errorf("found something in %d of %d comparisons of the same traffic: %v", found, tt.seeds, wrong)
			}
		})
	}
}

func bursty() []behaviour {
	flows := usual()
	for i := range flows {
		flows[i].bursty = true
	}
	return flows
}

// A median that is 20 % longer is found in 200 packets of each recording.
func TestSlowerIsFound(t *testing.T) {
	const seeds = 300
	found := 0
	for seed := range uint64(seeds) {
		flows := []behaviour{{share: 1, packet: tcp("172.16.16.20", 80), way: toRight}}
		a := profile(lab, flows, 200, 2*seed)
		flows[0].slower = map[string]float64{"host:left0 in": 1.2}
		d := Compare(a, profile(lab, flows, 200, 2*seed+1), Options{})
		for _, f := range d.Findings {
			if f.Change == Slower && f.Edge == (Edge{"host:left0 in", "host:right0 out"}) && !f.Time.Whole {
				found++
			}
		}
	}
	t.Logf("found %d of %d", found, seeds)
	if found < seeds*95/100 {
		t.Errorf("found %d of %d", found, seeds)
	}
}
