package result_test

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/bench/result"
)

// full is a Document with something in each field.
func full() *result.Document {
	h := hdrhistogram.New(1, int64(time.Minute), 3)
	for i := range int64(1000) {
		if err := h.RecordValue(1000 * (i + 1)); err != nil {
			panic(err)
		}
	}
	v := result.Variant{
		Name: "pps", Settings: map[string]string{"mode": "pps", "size": "64"},
		Metrics: []result.Metric{
			result.NewMetric("cpu", "ns/packet", result.Lower, true, []float64{190, 200, 195, 205, 191, 199}),
			result.NewMetric("rate", "pps", result.Higher, false, []float64{5e6, 4e6}),
		},
		Limited:    "the generator took all of CPU 0",
		Account:    result.Account{Sent: 10, Received: 7, Seen: []result.HopCount{{"left:l out", 10}}, Lost: []result.Loss{{"veth ring", 3}}},
		Hops:       []result.HopCost{{"left:l out", 80, 0.4, 3}},
		Bottleneck: "left:l out takes 40 % of the time",
		Latency:    result.NewHistogram(h),
		Curve:      []result.Point{{1e6, 9e5, 0.1, 13000, 42000}},
	}
	again := v
	again.Name, again.Limited = "pps again", ""
	return &result.Document{
		Schema: result.Schema, Version: "1.0", TimeNS: 1, Args: []string{"bench"}, Lab: "pair", From: "left", To: "right",
		Path: []string{"left:l out", "right:r in"},
		Environment: result.Environment{
			Kernel: "6.18", CPU: "c", CPUs: 2, Mitigations: map[string]string{"retbleed": "off"}, Congestion: "cubic",
			Affinity: map[string]string{"sender": "0"}, Steal: 0.01, Nsbpf: "1.0", Go: "go1.26",
			Devices: []result.Device{{Name: "left:l", MTU: 1500, Qdisc: "noqueue", Offloads: []string{"tso", "gro"}}},
		},
		Rounds: 6, Duration: time.Second, Variants: []result.Variant{v, again}, Noise: result.NewNoise(&v, &again), Notes: []string{"n"},
	}
}

func TestRoundTrip(t *testing.T) {
	var b bytes.Buffer
	want := full()
	if err := result.Write(&b, want); err != nil {
		t.Fatal(err)
	}
	got, err := result.Read(&b, "full")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-written +read:\n%s", d)
	}
	if n := got.Noise.Of("cpu"); n == nil || n.Ratio != 1 || got.Noise.Of("none") != nil {
		t.Errorf("noise of equals: %+v", n)
	}
	if n := got.Variants[0].Account.Unexplained(); n != 0 {
		t.Errorf("%d unexplained, want 0", n)
	}
}

// Everything that makes a file no result is told with its name and the place.
func TestWrong(t *testing.T) {
	var b bytes.Buffer
	if err := result.Write(&b, full()); err != nil {
		t.Fatal(err)
	}
	good := b.String()
	for _, test := range []struct{ name, from, to, want string }{
		{"other schema", "nsbpf.bench/1", "nsbpf.bench/2", `x.json: schema: "nsbpf.bench/2" is no result`},
		{"no schema", `"schema"`, `"scheme"`, "x.json: schema: missing"},
		{"cut off", `"lab":"pair"`, `"lab":`, "x.json:1:"},
		{"NaN", "[190,", "[NaN,", "invalid character 'N'"},
		{"text for number", "[190,", `["190",`, "variants.metrics.samples: string is no float64"},
		{"beyond numbers", "[190,", "[1e999,", "variants.metrics.samples: number 1e999"},
		{"below 0", "[190,", "[-190,", "x.json: variants[0].metrics[0].samples[0]: -190 is below 0"},
		{"no samples", "[190,200,195,205,191,199]", "[]", "x.json: variants[0].metrics[0].samples: none"},
		{"no unit", `"unit":"ns/packet"`, `"unit":""`, "variants[0].metrics[0].unit: missing"},
		{"which way", `"better":"lower"`, `"better":"up"`, `metrics[0].better: "up" (want "higher" or "lower")`},
		{"same name", `"pps again"`, `"pps"`, `variants[1].name: "pps" is there twice`},
		{"steal", `"steal":0.01`, `"steal":7`, "environment.steal: 7 is no share"},
		{"histogram", `"count":1000,`, `"count":999,`, "variants[0].latency.count: 999, but the buckets hold 1000"},
		{"noise", `"variant":"pps"`, `"variant":"gone"`, `noise.variant: "gone" is none of the variants`},
	} {
		_, err := result.Read(strings.NewReader(strings.Replace(good, test.from, test.to, 1)), "x.json")
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v\nwant %s", test.name, err, test.want)
		}
	}
	for text, want := range map[string]string{"": "x.json: empty", "[]": "x.json: array is no result", `{"schema":"nsbpf.bench/1"}`: "x.json: variants: none"} {
		if _, err := result.Read(strings.NewReader(text), "x.json"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	if _, err := result.ReadFile("testdata/none.json"); err == nil {
		t.Error("a missing file is read")
	}
	bad := full()
	bad.Variants[0].Metrics[0].Samples[0] = math.NaN()
	if err := result.Write(&b, bad); err == nil || !strings.Contains(err.Error(), "samples[0]: NaN") {
		t.Errorf("NaN is written: %v", err)
	}
}

// Whatever is read without an error can be written and read again.
func FuzzRead(f *testing.F) {
	var b bytes.Buffer
	if err := result.Write(&b, full()); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte(`{"schema":"nsbpf.bench/1","variants":[{"name":"a","metrics":[{"name":"m","unit":"u","better":"lower","samples":[1]}]}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := result.Read(bytes.NewReader(text), "f")
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := result.Write(&b, d); err != nil {
			t.Fatal(err)
		}
		if _, err := result.Read(&b, "again"); err != nil {
			t.Fatal(err)
		}
	})
}

func TestEnvironment(t *testing.T) {
	was, is := full().Environment, full().Environment
	if d := was.Compare(&is); d != nil {
		t.Errorf("equal environments differ: %v", d)
	}
	is.Kernel, is.Go, is.Steal = "6.19", "go1.27", 0.5
	is.Mitigations = map[string]string{"retbleed": "off", "mds": "on"}
	is.Devices = []result.Device{{Name: "left:l", MTU: 1500, Qdisc: "fq", Offloads: []string{"gro", "tso"}}}
	want := []result.Difference{
		{"kernel", "6.18", "6.19", true}, {"mitigations.mds", "", "on", true}, {"left:l.qdisc", "noqueue", "fq", true},
		{"go", "go1.26", "go1.27", false},
	}
	if d := cmp.Diff(want, was.Compare(&is)); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestHistogram(t *testing.T) {
	h := full().Variants[0].Latency
	if h.Count != 1000 || h.Min > 1000 || h.Max < 1_000_000 || h.P50 < 499_000 || h.P50 > 502_000 || h.Quantile(1) != h.Max {
		t.Errorf("%d durations %v…%v, p50 %v", h.Count, h.Min, h.Max, h.P50)
	}
	if result.NewHistogram(hdrhistogram.New(1, 100, 1)) != nil {
		t.Error("an empty histogram is one")
	}
	if _, err := json.Marshal(h); err != nil {
		t.Error(err)
	}
}

func TestFigure(t *testing.T) {
	for _, test := range []struct {
		x    float64
		unit string
		want string
	}{
		{5_210_000, "pps", "5.21 Mpps"}, {999.6, "pps", "1.00 kpps"}, {132.4, "ns/packet", "132 ns/packet"},
		{9.996, "Gbit/s", "10.0 Gbit/s"}, {0.0123, "s", "0.0123 s"}, {0, "pps", "0 pps"}, {12345, "ns", "12.3 µs"}, {12345, "ns/packet", "12345 ns/packet"},
		{1e-12, "s", "0.000000 s"},
	} {
		if got := result.Figure(test.x, test.unit); got != test.want {
			t.Errorf("%g %s is %q, want %q", test.x, test.unit, got, test.want)
		}
	}
}
