package report

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/topology"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares what write writes with testdata/name.
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

// goldenJSON is golden for lines of JSON, each of which must have that schema.
func goldenJSON(t *testing.T, name, schema string, write func(io.Writer) error) {
	t.Helper()
	for line := range strings.Lines(golden(t, name, write)) {
		var doc struct{ Schema string }
		if err := json.Unmarshal([]byte(line), &doc); err != nil || doc.Schema != schema {
			t.Errorf("schema %q, error %v, want %q in %s", doc.Schema, err, schema, line)
		}
	}
}

func fits(t *testing.T, text string, width int) {
	t.Helper()
	for line := range strings.Lines(text) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > width {
			t.Errorf("line of %d characters (want at most %d): %s", n, width, line)
		}
	}
}

func preset(t testing.TB, name string) *topology.Topology {
	t.Helper()
	topo, err := topology.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	return topo
}

func natWAN(t testing.TB) *topology.Topology {
	t.Helper()
	topo, err := preset(t, "nat").WithWAN()
	if err != nil {
		t.Fatal(err)
	}
	return topo
}
