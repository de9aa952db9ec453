package bpf

import (
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the recorded checksum of the C sources")

const checksumFile = "sources.sha256"

// The objects are committed, so a C file changed without `make generate` would
// go unnoticed; its checksum does not.
func TestSourcesAreGenerated(t *testing.T) {
	var files []string
	for _, pattern := range []string{"*.c", "*.h", "headers/*.h"} {
		m, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, m...)
	}
	sort.Strings(files)

	var b strings.Builder
	for _, f := range files {
		src, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(src)
		fmt.Fprintf(&b, "%s  %s\n", hex.EncodeToString(sum[:]), filepath.ToSlash(f))
	}

	if *update {
		if err := os.WriteFile(checksumFile, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(checksumFile)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("the C sources differ from those the objects were made of (run `make generate`)\ngot:\n%swant:\n%s", b.String(), want)
	}
}
