package recording

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/trace"
)

// realTrace returns what the tests of trace recorded of a real lab: what the joiner
// knows, and what it is told.
func realTrace(t *testing.T, file string) (start Start, told []trace.Input) {
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
	dec := json.NewDecoder(z)
	if err := dec.Decode(&start); err != nil {
		t.Fatal(err)
	}
	var in trace.Input
	for {
		var e struct {
			Run   *collector.Run
			Until uint64
		}
		if err := dec.Decode(&e); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if e.Run != nil {
			in.Runs = append(in.Runs, *e.Run)
			continue
		}
		in.Until = e.Until
		told, in = append(told, in), trace.Input{}
	}
	return start, append(told, in)
}

// paths joins what it is told, and writes it and the paths to f, if that is not nil.
func paths(t *testing.T, start Start, told []trace.Input, f *File) (all []string) {
	t.Helper()
	j, err := trace.NewJoiner(trace.Config{Hops: start.Hops, Edges: start.Edges, Owners: start.Owners}, func(p *trace.Path) {
		all = append(all, fmt.Sprintf("%+v", p))
		if f != nil {
			record(t, f, Event{Path: &Path{JSON: []byte(`{}`), Joined: p}})
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range told {
		j.Add(told[i])
		if f != nil {
			record(t, f, Event{Input: &told[i]})
		}
	}
	j.End()
	return all
}

// A replay of a real trace comes to the same paths as the trace, from both formats,
// and a capture file has a packet for each of their steps, in the order of time.
func TestReplay(t *testing.T) {
	files, err := filepath.Glob("../testdata/recorded-*.json.gz")
	if err != nil || len(files) < 5 {
		t.Fatalf("the recordings are %q (%v)", files, err)
	}
	for _, file := range files {
		for _, ext := range []string{".ndjson", ".pcapng"} {
			t.Run(filepath.Base(file)+ext, func(t *testing.T) { testReplay(t, file, ext) })
		}
	}
}

func testReplay(t *testing.T, file, ext string) {
	start, told := realTrace(t, file)
	name := filepath.Join(t.TempDir(), "x"+ext)
	f, err := Create(name, start, Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := paths(t, start, told, f)
	record(t, f, Event{End: &End{}})
	closeFile(t, f)

	again, events := readFile(t, name)
	var inputs []trace.Input
	for _, e := range events {
		if e.Input != nil {
			inputs = append(inputs, *e.Input)
		}
	}
	if diff := cmp.Diff(want, paths(t, again, inputs, nil)); diff != "" || len(want) < 20 {
		t.Errorf("%d paths (-trace +replay):\n%.3000s", len(want), diff)
	}
	if ext == ".pcapng" {
		checkShown(t, name, inputs)
	}
}

// checkShown looks for a packet of each sighting in a capture file.
func checkShown(t *testing.T, name string, inputs []trace.Input) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, shown := packets(t, f)
	sightings := 0
	for _, in := range inputs {
		for i := range in.Runs {
			sightings += in.Runs[i].Len()
		}
	}
	if len(shown) != sightings {
		t.Errorf("%d packets are shown of %d sightings", len(shown), sightings)
	}
	for i := range shown {
		if i > 0 && shown[i].NS < shown[i-1].NS {
			t.Errorf("packet %d is shown after one of %d ns later", i, shown[i-1].NS-shown[i].NS)
		}
	}
}
