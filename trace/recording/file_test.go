package recording

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/forward"
	"github.com/nsbpf/nsbpf/trace"
)

func create(t *testing.T, path string, opts Options) *File {
	t.Helper()
	f, err := Create(path, testStart(), opts)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func record(t *testing.T, f *File, events ...Event) {
	t.Helper()
	for _, e := range events {
		if err := f.Write(e); err != nil {
			t.Fatal(err)
		}
	}
}

func closeFile(t *testing.T, f *File) {
	t.Helper()
	for range 2 { // the second does nothing
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func readFile(t *testing.T, path string) (Start, []Event) {
	t.Helper()
	r, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	return r.Start(), readAll(t, r)
}

func readAll(t *testing.T, r *Reader) (events []Event) {
	t.Helper()
	for e, err := range r.Events() {
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, clone(e))
	}
	return events
}

// readAlone reads a file of those that follow each other.
func readAlone(t *testing.T, path string) (Start, []Event) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r, err := openReader(bytes.NewReader(b), path)
	if err != nil {
		t.Fatal(err)
	}
	return r.Start(), readAll(t, r)
}

// Both formats hold all that there is, whatever the file is called.
func TestFile(t *testing.T) {
	for _, name := range []string{"x.ndjson", "x.pcapng"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), name)
			f := create(t, path, Options{})
			record(t, f, testEvents()...)
			closeFile(t, f)
			other := filepath.Join(t.TempDir(), "other")
			if err := os.Rename(path, other); err != nil {
				t.Fatal(err)
			}
			start, events := readFile(t, other)
			if diff := cmp.Diff(testStart(), start, exact); diff != "" {
				t.Errorf("start (-written +read):\n%s", diff)
			}
			if diff := cmp.Diff(testEvents(), events, exact); diff != "" {
				t.Errorf("events (-written +read):\n%s", diff)
			}
		})
	}
}

func TestCreateErrors(t *testing.T) {
	dir := t.TempDir()
	old := filepath.Join(dir, "x-3.ndjson")
	if err := os.WriteFile(old, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		path string
		opts Options
		want string
	}{
		"no ending":      {"out", Options{}, `recording to "out": the format is not known (want a name that ends in .ndjson or .pcapng)`},
		"other ending":   {"out.pcap", Options{}, `recording to "out.pcap": the format is not known (want a name that ends in .ndjson or .pcapng)`},
		"no folder":      {filepath.Join(dir, "a", "x.ndjson"), Options{}, "no such file or directory"},
		"of another run": {filepath.Join(dir, "x.ndjson"), Options{RotateBytes: 1}, "x-3.ndjson\" exists, of another recording (remove it or choose another name)"},
	}
	for name, c := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := Create(c.path, testStart(), c.opts); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	capture := filepath.Join(dir, "x.pcapng")
	f := create(t, capture, Options{})
	record(t, f, testEvents()...)
	closeFile(t, f)
	whole, err := os.ReadFile(capture)
	if err != nil {
		t.Fatal(err)
	}
	foreign := bytes.ReplaceAll(whole, []byte(ourMagic), []byte("else"))
	damaged := bytes.Clone(whole)
	damaged[4] = 0xff
	tests := map[string]struct {
		content []byte
		want    string
	}{
		"nothing":  {nil, "f: there is no recording in it"},
		"text":     {[]byte("hello\n"), `f:1: this is no recording of nsbpf (want an object of type "start" and schema "nsbpf.recording/1")`},
		"foreign":  {foreign, "f: there is no recording in it (it is a capture file that nsbpf did not write, or another program did after it)"},
		"no order": {append([]byte("\n\r\r\n"), "0123456789abcdef"...), "f: the section at byte 0 has no byte order (is the file damaged?)"},
		"damaged":  {damaged, "f: the block at byte 0 says that it is 255 bytes long (is the file damaged?)"},
		"cut off":  {whole[:len(whole)/2], "f: " + ErrCut.Error()},
		"cut end":  {whole[:len(whole)-2], ""},
	}
	for name, c := range tests {
		t.Run(name, func(t *testing.T) {
			var got string
			r, err := openReader(bytes.NewReader(c.content), "f")
			if err == nil {
				for _, err = range r.Events() {
				}
			}
			if err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("error %q, want %q", got, c.want)
			}
		})
	}
}

// Each file of a rotated recording holds for itself, together they hold
// everything once, and only what this recording made is deleted. Read from the first
// on, they are one recording.
func TestRotate(t *testing.T) {
	for _, ext := range []string{".ndjson", ".pcapng"} {
		for _, most := range []int{0, 3} {
			t.Run(ext, func(t *testing.T) { testRotate(t, ext, most) })
		}
	}
}

func testRotate(t *testing.T, ext string, most int) {
	dir := t.TempDir()
	foreign := filepath.Join(dir, "x-y"+ext)
	if err := os.WriteFile(foreign, []byte("mine"), 0o666); err != nil {
		t.Fatal(err)
	}
	node := &forward.Node{Name: "host", TimeNS: 1, Devices: []forward.Device{}, Rules: []forward.Rule{}, Routes: []forward.Route{}, Sysctls: map[string]string{}}
	later := *node
	later.TimeNS = 2
	grown := &Losses{Node: "host", Losses: []forward.Loss{{Name: "IpInDiscards", Count: 3}}}
	f := create(t, filepath.Join(dir, "x"+ext), Options{RotateBytes: 4 << 10, RotateFiles: most})
	record(t, f, Event{Filters: []Filter{{ID: 1, Expr: "tcp"}}}, Event{Node: node}, Event{Node: &later},
		Event{Losses: &Losses{Node: "host"}}, Event{Losses: grown})
	const batches = 40
	for i := range batches {
		in := &trace.Input{Runs: []collector.Run{testRun(uint64(i), 1)}, Until: uint64(i + 1)}
		record(t, f, Event{Input: in})
	}
	record(t, f, Event{End: &End{}})
	closeFile(t, f)

	var untils []uint64
	for i, name := range f.Names() {
		start, events := readAlone(t, name)
		if diff := cmp.Diff(testStart(), start, exact); diff != "" {
			t.Errorf("%s: start: %s", name, diff)
		}
		if i > 0 || most > 0 {
			want := []Event{{Filters: []Filter{{ID: 1, Expr: "tcp"}}}, {Node: &later}, {Losses: grown}}
			if diff := cmp.Diff(want, events[:len(want)], exact); diff != "" {
				t.Errorf("%s does not begin with the state: %s", name, diff)
			}
		}
		for _, e := range events {
			if e.Input != nil {
				untils = append(untils, e.Input.Until)
			}
		}
		last := events[len(events)-1]
		if i == 0 {
			checkJoined(t, name, len(f.Names()))
		}
		if end := i == len(f.Names())-1; end != (last.End != nil) || !end && last.Next != filepath.Base(f.Names()[i+1]) {
			t.Errorf("%s ends in %+v", name, last)
		}
	}
	if n := len(f.Names()); n < 3 || most > 0 && n != most {
		t.Errorf("%d files are kept", n)
	}
	for i, u := range untils {
		if u != uint64(batches-len(untils)+i+1) {
			t.Fatalf("batches %d are kept", untils)
		}
	}
	if most == 0 && len(untils) != batches {
		t.Errorf("%d of %d batches are kept", len(untils), batches)
	}
	if there, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(there) != len(f.Names())+1 {
		t.Errorf("the folder has %q (%v), the recording %q", there, err, f.Names())
	}
}

// checkJoined checks that the file is read on in those that follow it, and that it is
// told if one is not there.
func checkJoined(t *testing.T, name string, files int) {
	t.Helper()
	_, events := readFile(t, name)
	starts := 0
	for _, e := range events {
		if e.Filters != nil {
			starts++
		}
		if e.Next != "" {
			t.Errorf("%s is read as far as %s only", name, e.Next)
		}
	}
	if starts != files || events[len(events)-1].End == nil {
		t.Errorf("%s is read on in %d of %d files", name, starts, files)
	}
	alone := filepath.Join(t.TempDir(), filepath.Base(name))
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(alone, b, 0o666); err != nil {
		t.Fatal(err)
	}
	_, events = readFile(t, alone)
	next := events[len(events)-1].Next
	if next == "" {
		t.Error("a file that is not there is not told")
	}
	// A file that goes on in itself, or in another recording's, is not read for ever.
	if err := os.WriteFile(filepath.Join(filepath.Dir(alone), next), b, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, events := readFile(t, alone); events[len(events)-1].Next != next {
		t.Error("what follows itself ends otherwise")
	}
}

// What cannot be written is said once.
func TestWriteErrors(t *testing.T) {
	for _, name := range []string{"x.ndjson", "x.pcapng"} {
		path := filepath.Join(t.TempDir(), name)
		f := create(t, path, Options{})
		record(t, f, testEvents()[:1]...)
		if err := f.file.Close(); err != nil {
			t.Fatal(err)
		}
		err := f.Write(Event{Input: &trace.Input{Until: 1}})
		if err == nil || !strings.HasPrefix(err.Error(), fmt.Sprintf("recording to %q: ", path)) || strings.Contains(err.Error(), "\n") {
			t.Errorf("error %q", err)
		}
		if err := f.Close(); err != nil {
			t.Errorf("the same again: %v", err)
		}
	}
}

// A recording that is cut off anywhere is read as far as it goes, and said to be.
func TestCutAnywhere(t *testing.T) {
	for _, name := range []string{"x.ndjson", "x.pcapng"} {
		path := filepath.Join(t.TempDir(), name)
		f := create(t, path, Options{})
		record(t, f, testEvents()...)
		closeFile(t, f)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		told := 0
		for n := range whole {
			r, err := openReader(bytes.NewReader(whole[:n]), "f")
			if err != nil {
				continue // not as much as its first line
			}
			events := 0
			for _, err = range r.Events() {
				events++
			}
			if !errors.Is(err, ErrCut) && !r.done {
				t.Fatalf("%s: %d of %d bytes end in %v", name, n, len(whole), err)
			}
			if events < told {
				t.Fatalf("%s: of %d bytes %d events are read, of fewer %d", name, n, events, told)
			}
			told = events
		}
		if told < len(testEvents()) {
			t.Errorf("%s: %d events are read at last", name, told)
		}
	}
}

func FuzzOpen(f *testing.F) {
	c := &bytes.Buffer{}
	w, err := newCapture(c, testStart(), newSnaps())
	if err != nil {
		f.Fatal(err)
	}
	for _, e := range testEvents() {
		if err := w.Write(e); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(c.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := openReader(bytes.NewReader(b), "f")
		if err != nil {
			return
		}
		for range r.Events() {
		}
	})
}
