package format_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/bench/compare"
	"github.com/nsbpf/nsbpf/bench/format"
	"github.com/nsbpf/nsbpf/bench/result"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// document has two variants whose names, notes and numbers are awkward, slower by a
// factor.
func document(slower float64) *result.Document {
	series := func(median float64, n int) []float64 {
		xs := make([]float64, n)
		for i := range xs {
			xs[i] = median * (1 + 0.01*float64((i*7)%10-4))
		}
		return xs
	}
	d := &result.Document{
		Schema: result.Schema, Version: "1.2.0", TimeNS: 1_700_000_000_000_000_000,
		Lab: "nat", From: "left", To: "right", Rounds: 12, Duration: 500 * time.Millisecond,
		Environment: result.Environment{Kernel: "6.18.0", CPU: "Example | CPU", CPUs: 2},
		Notes:       []string{"gro was switched on at right-veth"},
	}
	for _, name := range []string{"pps size=64", `tcp "a,b" <1>`} {
		d.Variants = append(d.Variants, result.Variant{
			Name: name, Settings: map[string]string{"size": "64", "mode": strings.Fields(name)[0]},
			Metrics: []result.Metric{
				result.NewMetric("rate", "pps", result.Higher, false, series(5.2e6/slower, 12)),
				result.NewMetric("cpu", "ns/packet", result.Lower, true, series(191*slower, 12)),
				result.NewMetric("p50", "ns", result.Lower, false, series(13_000, 12)),
				result.NewMetric("p99", "ns", result.Lower, false, series(42_000, 12)),
			},
			Account:    result.Account{Sent: 1000, Received: 990, Lost: []result.Loss{{Place: "backlog", Count: 10}}},
			Bottleneck: "host:br0 takes 46 % of the time",
		})
	}
	return d
}

func golden(t *testing.T, name string, write func(io.Writer) error) string {
	t.Helper()
	var b bytes.Buffer
	if err := write(&b); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("testdata", name)
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
	return b.String()
}

func TestFormats(t *testing.T) {
	for _, name := range format.Names() {
		golden(t, name+".golden", func(w io.Writer) error { return format.Write(w, name, document(1)) })
	}
	c := compare.Compare(document(1), document(1.2), compare.Options{})
	golden(t, "compare-markdown.golden", func(w io.Writer) error { return format.CompareMarkdown(w, c) })
	golden(t, "compare-junit.golden", func(w io.Writer) error { return format.CompareJUnit(w, c, document(1.2)) })
	if err := format.Write(io.Discard, "yaml", document(1)); err == nil || !strings.Contains(err.Error(), "bencher") {
		t.Errorf("format yaml: %v (want the known ones)", err)
	}
}

// benchstat is what the Go lines are for: it must take them all, and know which way is
// better.
func TestBenchstat(t *testing.T) {
	dir := t.TempDir()
	var files []string
	for name, slower := range map[string]float64{"1old": 1, "2new": 1.2} {
		file := filepath.Join(dir, name)
		f, err := os.Create(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := format.Go(f, document(slower)); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		files = append(files, name+"="+file)
	}
	if files[0] > files[1] {
		files[0], files[1] = files[1], files[0]
	}
	c := exec.Command("go", append([]string{"tool", "benchstat", "-format", "csv"}, files...)...)
	var complaints strings.Builder
	c.Stderr = &complaints
	out, err := c.Output()
	if err != nil {
		t.Fatalf("benchstat: %v\n%s", err, &complaints)
	}
	if s := complaints.String(); s != "" {
		t.Errorf("benchstat complains:\n%s", s)
	}
	for _, want := range []string{"pps", "sec/packet", "p50-", "p99-", "Pps_size=64", "+20.00%", "-16.67%", "p=0.000 n=12"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("benchstat does not say %q:\n%s", want, out)
		}
	}
}

func TestCSV(t *testing.T) {
	var b bytes.Buffer
	d := document(1)
	if err := format.CSV(&b, d); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&b).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if want := 1 + 2*4*12; len(rows) != want {
		t.Errorf("%d rows, want %d", len(rows), want)
	}
	if last := rows[len(rows)-1]; last[4] != d.Variants[1].Name || last[10] != "12" {
		t.Errorf("last row %q", last)
	}
}

// github-action-benchmark and Bencher refuse entries without these fields.
func TestTrends(t *testing.T) {
	for name, metrics := range map[string]int{"action-bigger": 1, "action-smaller": 3} {
		var b bytes.Buffer
		if err := format.Write(&b, name, document(1)); err != nil {
			t.Fatal(err)
		}
		var all []struct {
			Name, Unit, Range, Extra *string
			Value                    *float64
		}
		if err := json.Unmarshal(b.Bytes(), &all); err != nil {
			t.Fatal(err)
		}
		if len(all) != 2*metrics {
			t.Errorf("%s has %d entries, want %d", name, len(all), 2*metrics)
		}
		for _, e := range all {
			if e.Name == nil || e.Unit == nil || e.Value == nil || e.Range == nil || e.Extra == nil {
				t.Errorf("%s: a field is missing: %+v", name, e)
			}
		}
	}
	var b bytes.Buffer
	if err := format.Bencher(&b, document(1)); err != nil {
		t.Fatal(err)
	}
	var all map[string]map[string]map[string]float64
	if err := json.Unmarshal(b.Bytes(), &all); err != nil {
		t.Fatal(err)
	}
	if v := all["pps size=64"]["rate (pps)"]; v["value"] == 0 || v["lower_value"] > v["value"] || v["upper_value"] < v["value"] {
		t.Errorf("bencher: %v", v)
	}
}

// The schemas of Ant and Jenkins want these attributes and this order of elements.
func TestJUnit(t *testing.T) {
	c := compare.Compare(document(1), document(1.2), compare.Options{})
	for name, write := range map[string]func(io.Writer) error{
		"result":  func(w io.Writer) error { return format.JUnit(w, document(1)) },
		"compare": func(w io.Writer) error { return format.CompareJUnit(w, c, document(1.2)) },
	} {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			t.Fatal(err)
		}
		required := map[string][]string{
			"testsuite": {"name", "package", "id", "hostname", "timestamp", "tests", "failures", "errors", "time"},
			"testcase":  {"classname", "name", "time"}, "failure": {"type", "message"}, "error": {"type", "message"},
			"property": {"name", "value"},
		}
		counts, order := map[string]int{}, []string{}
		depth := 0
		dec := xml.NewDecoder(&b)
		for {
			tok, err := dec.Token()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			switch e := tok.(type) {
			case xml.StartElement:
				counts[e.Name.Local]++
				if depth == 2 && (len(order) == 0 || order[len(order)-1] != e.Name.Local) {
					order = append(order, e.Name.Local)
				}
				depth++
				for _, want := range required[e.Name.Local] {
					has := false
					for _, a := range e.Attr {
						has = has || a.Name.Local == want && a.Value != ""
					}
					if !has {
						t.Errorf("%s: %s has no %s", name, e.Name.Local, want)
					}
				}
			case xml.EndElement:
				depth--
			}
		}
		if d := cmp.Diff([]string{"properties", "testcase", "system-out", "system-err"}, order); d != "" {
			t.Errorf("%s: order of elements (-want +got):\n%s", name, d)
		}
		if want := map[string]int{"result": 0, "compare": 2}[name]; counts["failure"] != want {
			t.Errorf("%s: %d failures, want %d", name, counts["failure"], want)
		}
	}
}
