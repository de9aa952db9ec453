package result

import (
	"math"

	"github.com/nsbpf/nsbpf/bench/stat"
)

// NewMetric returns a metric of these samples, with their median and its interval. There
// must be one at least.
func NewMetric(name, unit string, better Better, gate bool, samples []float64) Metric {
	i := stat.Median(samples, 0.95)
	return Metric{
		Name: name, Unit: unit, Better: better, Gate: gate, Samples: samples,
		Median: i.Center, Low: i.Low, High: i.High, Confidence: i.Confidence,
	}
}

// NewNoise returns what two equal variants of the same rounds differ by, for each metric
// that both have.
func NewNoise(a, b *Variant) *Noise {
	n := &Noise{Variant: a.Name, Metrics: []MetricNoise{}}
	for _, m := range a.Metrics {
		o := b.Metric(m.Name)
		if o == nil {
			continue
		}
		if i := stat.PairedRatio(m.Samples, o.Samples, 0.95); !math.IsNaN(i.Center) {
			n.Metrics = append(n.Metrics, MetricNoise{m.Name, i.Center, i.Low, i.High, stat.Floor(i)})
		}
	}
	return n
}
