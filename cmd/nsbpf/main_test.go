package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/nsbpf/nsbpf/internal/testenv"
)

// host runs the tests on a host of their own.
type host struct{ m *testing.M }

func (h host) Run() int { return testenv.Main(h.m) }

// TestMain puts the test binary into PATH as nsbpf.
func TestMain(m *testing.M) {
	testscript.Main(host{m}, map[string]func(){"nsbpf": main})
}

// TestScripts runs each script of testdata, which leaves the host as it was.
func TestScripts(t *testing.T) {
	testenv.Root(t)
	runScripts(t, "testdata/*.txtar", func(testing.TB) {})
}

// TestScriptsWithUplink does the same on a host with a way outside.
func TestScriptsWithUplink(t *testing.T) {
	testenv.Root(t)
	runScripts(t, "testdata/uplink/*.txtar", testenv.Uplink)
}

func runScripts(t *testing.T, pattern string, setUp func(testing.TB)) {
	files, err := filepath.Glob(pattern)
	if err != nil || files == nil {
		t.Fatalf("no scripts at %s (%v)", pattern, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			setUp(t)
			leavesNothing(t)
			testscript.Run(t, testscript.Params{
				Files: []string{file},
				Cmds: map[string]func(*testscript.TestScript, bool, []string){
					"exits": exits, "until": until, "json": checkJSON,
				},
				UpdateScripts:      os.Getenv("UPDATE_SCRIPTS") != "",
				RequireUniqueNames: true,
			})
		})
	}
}

// leavesNothing fails the test if the host is not at its end as it is now.
func leavesNothing(t *testing.T) {
	t.Helper()
	before := testenv.Snapshot(t)
	t.Cleanup(func() {
		if t.Failed() { // what there is then is of no interest, but in the way of others
			_ = exec.Command("nsbpf", "down", "--all").Run()
			return
		}
		after := testenv.Snapshot(t)
		if diff := cmp.Diff(strings.Split(before, "\n"), strings.Split(after, "\n")); diff != "" {
			t.Errorf("the host is not as it was (-before +after):\n%s", diff)
		}
	})
}
