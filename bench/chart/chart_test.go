package chart_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/bench/chart"
	"github.com/nsbpf/nsbpf/bench/result"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// document has three variants with everything a chart can show.
func document() *result.Document {
	d := &result.Document{
		Schema: result.Schema, Lab: "nat", From: "left", To: "right", Rounds: 9, Duration: 500 * time.Millisecond,
		Environment: result.Environment{Kernel: "6.18.0", CPU: "Example CPU <64> & more"},
	}
	for i, name := range []string{"nothing attached", "every hop counted", "every packet traced at every hop of the lab"} {
		slow := 1 + 0.3*float64(i)
		rates, costs := []float64{}, []float64{}
		for k := range 9 {
			wobble := 1 + 0.04*math.Sin(float64(3*k+i))
			rates, costs = append(rates, 5.2e6/slow*wobble), append(costs, 190*slow/wobble)
		}
		h := hdrhistogram.New(1, int64(time.Minute), 2)
		for k := range 2000 {
			if err := h.RecordValue(int64(9000 * slow * math.Exp(float64(k%997)/300))); err != nil {
				panic(err)
			}
		}
		v := result.Variant{Name: name, Latency: result.NewHistogram(h), Metrics: []result.Metric{
			result.NewMetric("rate", "pps", result.Higher, false, rates),
			result.NewMetric("cpu", "ns/packet", result.Lower, true, costs),
		}}
		for k := 1; k <= 10; k++ {
			offered := 0.6e6 * float64(k)
			passed := min(offered, 5.2e6/slow)
			v.Curve = append(v.Curve, result.Point{Offered: offered, Received: passed, Loss: 1 - passed/offered})
		}
		d.Variants = append(d.Variants, v)
	}
	return d
}

func TestChart(t *testing.T) {
	var b bytes.Buffer
	if err := chart.Write(&b, document()); err != nil {
		t.Fatal(err)
	}
	const file = "testdata/chart.svg"
	if *update {
		if err := os.WriteFile(file, b.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), b.String()); d != "" {
		t.Errorf("%s (-want +got; -update rewrites it):\n%s", file, d)
	}
}

// A chart is XML without anything that is elsewhere, and without what is no number,
// whatever was measured.
func TestSelfContained(t *testing.T) {
	one := func(x float64) *result.Document {
		return &result.Document{Variants: []result.Variant{{
			Name:    "<script>",
			Metrics: []result.Metric{result.NewMetric("rate", "pps", result.Higher, false, []float64{x})},
			Latency: &result.Histogram{Count: 1, Buckets: []result.Bucket{{Count: 1}}},
			Curve:   []result.Point{{}},
		}}}
	}
	for name, d := range map[string]*result.Document{
		"all": document(), "none": {}, "zero": one(0), "tiny": one(1e-9), "huge": one(1e300), "one": one(1),
	} {
		var b bytes.Buffer
		if err := chart.Write(&b, d); err != nil {
			t.Fatal(err)
		}
		text := b.String()
		dec := xml.NewDecoder(strings.NewReader(text))
		for {
			tok, err := dec.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if e, ok := tok.(xml.StartElement); ok && (e.Name.Local == "script" || e.Name.Local == "image") {
				t.Errorf("%s: has a %s", name, e.Name.Local)
			}
		}
		for _, bad := range []string{"NaN", "Inf", "href", "url(", "@import"} {
			if strings.Contains(text, bad) {
				t.Errorf("%s: has %q", name, bad)
			}
		}
	}
}
