package testenv

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// objects lists the BPF objects of the host of the tests: those that its
// processes hold and those on its devices; pins are files below /run. bpftool's
// own lists are the whole machine's, with what other tests do at the same time.
func objects(t testing.TB) string {
	t.Helper()
	mine, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	lines := []string{Run(t, "bpftool", "net", "show")}
	for _, proc := range procs {
		if its, err := os.Readlink(proc + "/ns/mnt"); err == nil && its == mine {
			lines = append(lines, held(proc)...)
		}
	}
	slices.Sort(lines)
	return strings.Join(slices.Compact(lines), "\n")
}

// held returns the BPF objects that a process holds, such as "prog_id: 12".
func held(proc string) []string {
	var lines []string
	fds, _ := os.ReadDir(proc + "/fd") // none: it ended meanwhile
	for _, fd := range fds {
		target, _ := os.Readlink(filepath.Join(proc, "fd", fd.Name()))
		if !strings.HasPrefix(target, "anon_inode:bpf") {
			continue
		}
		text, _ := os.ReadFile(filepath.Join(proc, "fdinfo", fd.Name()))
		for line := range bytes.Lines(text) {
			if words := strings.Fields(string(line)); len(words) == 2 && strings.HasSuffix(words[0], "_id:") {
				lines = append(lines, strings.Join(words, " "))
			}
		}
	}
	return lines
}
