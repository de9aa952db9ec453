package diff

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/trace"
)

// eachPath hands the Paths of a recorded run of trace's tests on.
func eachPath(t *testing.T, file string, profile func(trace.Config) func(*trace.Path)) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(bufio.NewReader(z))
	var config trace.Config
	if err := dec.Decode(&config); err != nil {
		t.Fatal(err)
	}
	j, err := trace.NewJoiner(config, profile(config))
	if err != nil {
		t.Fatal(err)
	}
	for {
		var entry struct {
			Run   *collector.Run
			Until uint64
		}
		err := dec.Decode(&entry)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		in := trace.Input{Until: entry.Until}
		if entry.Run != nil {
			in.Runs = []collector.Run{*entry.Run}
		}
		j.Add(in)
	}
	j.Flush()
}

// In real traffic every second packet is as the others are.
func TestRecordedHalves(t *testing.T) {
	files, err := filepath.Glob("../testdata/recorded-*.json.gz")
	if err != nil || len(files) < 5 {
		t.Fatalf("the recordings are %q (%v)", files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json.gz"), func(t *testing.T) {
			var halves [2]*Profile
			turns := map[Flow]int{}
			eachPath(t, file, func(c trace.Config) func(*trace.Path) {
				halves[0], halves[1] = NewProfile(c.Hops, c.Edges), NewProfile(c.Hops, c.Edges)
				return func(p *trace.Path) {
					f := flowOf(halves[0].name(p.Steps[0].HopID()), &p.Steps[0].Sighting)
					halves[turns[f]%2].Add(p)
					turns[f]++
				}
			})
			d := Compare(halves[0], halves[1], Options{})
			if d.Edges == 0 || d.Flows == 0 || len(d.Findings) > 0 {
				t.Errorf("of %d edges, %d flows, %d times: found %q", d.Edges, d.Flows, len(d.Times), describeAll(d.Findings))
			}
			t.Logf("%d paths, %d edges, %d flows, %d times, %d tests; doubtful %q", d.A.Paths+d.B.Paths, d.Edges, d.Flows, len(d.Times), d.Tests, describeAll(d.Doubtful))
		})
	}
}
