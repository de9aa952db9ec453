package recording

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/trace"
)

// lineOf returns the line of a run that has everything.
func lineOf(t testing.TB) []byte {
	t.Helper()
	r := testRun(1, 3)
	r.TimeNS >>= 1 // as no clock will show
	lines := bytes.SplitAfter(write(t, testStart(), Event{Input: &trace.Input{Runs: []collector.Run{r}}}), []byte("\n"))
	return bytes.TrimSpace(lines[1])
}

// What the Writer writes of a run is scanned, whatever fields it has.
func TestScan(t *testing.T) {
	line := lineOf(t)
	var got, want sightingLine
	if !got.scan(line, new(tupleDoc)) {
		t.Fatalf("%s is not scanned", line)
	}
	if err := json.Unmarshal(line, &want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(sightingLine{})); diff != "" {
		t.Errorf("(-json +scan):\n%s", diff)
	}
}

// What is scanned is as encoding/json reads it.
func FuzzScan(f *testing.F) {
	f.Add(lineOf(f))
	f.Add([]byte(`{"time_ns":01,"hop":65536,"steps":[]}`))
	f.Add([]byte(`{"orig":{},"steps":[{},{"hop":1}],"skb":"0x0"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var got, want sightingLine
		if !got.scan(b, new(tupleDoc)) {
			return
		}
		if err := json.Unmarshal(b, &want); err != nil {
			t.Fatalf("%q was scanned: %v", b, err)
		}
		if bytes.Count(b, []byte(`"orig"`)) > 1 || bytes.Count(b, []byte(`"steps"`)) > 1 {
			return // encoding/json merges them
		}
		if len(want.Steps) == 0 {
			want.Steps = got.Steps
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(sightingLine{})); diff != "" {
			t.Errorf("%q (-json +scan):\n%s", b, diff)
		}
	})
}
