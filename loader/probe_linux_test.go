package loader

import (
	"testing"

	"github.com/nsbpf/nsbpf/internal/testenv"
)

// TestProbe runs as anybody: whatever is missing is told, with what it costs.
func TestProbe(t *testing.T) {
	seen := make(map[string]bool)
	for _, f := range Probe() {
		if f.Name == "" || f.Found == "" || seen[f.Name] {
			t.Errorf("%+v", f)
		}
		seen[f.Name] = true
		if !f.OK && (f.Without == "" || f.Mend == "") {
			t.Errorf("%s is missing, with no advice: %+v", f.Name, f)
		}
	}
}

// TestProbeRequired checks that the tests' own kernel has what the tests need.
func TestProbeRequired(t *testing.T) {
	testenv.Root(t)
	for _, f := range Probe() {
		t.Logf("%-19s %t %s", f.Name, f.OK, f.Found)
		if f.Required && !f.OK {
			t.Errorf("%s: %s", f.Name, f.Found)
		}
	}
}
