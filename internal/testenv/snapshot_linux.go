package testenv

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Snapshot returns the state of the host as text, the same for the same state:
// links, addresses, routes, rules, nft ruleset, kernel parameters, namespaces,
// mounts, files below /run, and the BPF objects that it holds.
// Compare two with go-cmp.
func Snapshot(t testing.TB) string {
	t.Helper()
	Root(t)
	var b strings.Builder
	section := func(name, text string) { fmt.Fprintf(&b, "== %s\n%s\n", name, strings.TrimSpace(text)) }
	for _, cmd := range []string{
		"ip -d link",
		"ip addr",
		"ip -4 route show table all",
		"ip -6 route show table all",
		"ip -4 rule",
		"ip -6 rule",
		"nft -s list ruleset",
	} {
		words := strings.Fields(cmd)
		section(cmd, Run(t, words[0], words[1:]...))
	}
	section("/proc/sys/net", sysctls(t))
	section("mounts", mounts(t))
	section("/run", files(t))
	section("bpf", objects(t))
	return b.String()
}

// changing are kernel parameters that change by themselves.
var changing = regexp.MustCompile(`nf_conntrack_count$|/random|dev_weight_`)

func sysctls(t testing.TB) string {
	t.Helper()
	var lines []string
	walk(t, "/proc/sys/net", func(path string, e fs.DirEntry) {
		if e.IsDir() || changing.MatchString(path) {
			return
		}
		if v, err := os.ReadFile(path); err == nil { // some are write-only
			lines = append(lines, path+" = "+strings.TrimSpace(string(v)))
		}
	})
	return strings.Join(lines, "\n")
}

// mountID are the numbers in mountinfo that differ for equal mounts.
var mountID = regexp.MustCompile(`(?m)^\d+ \d+ |(shared|master):\d+|net:\[\d+\]`)

func mounts(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return mountID.ReplaceAllString(string(b), "$1")
}

func files(t testing.TB) string {
	t.Helper()
	var lines []string
	walk(t, "/run", func(path string, e fs.DirEntry) {
		if strings.HasPrefix(path+"/", "/run/mount/") {
			return // mount(8) keeps its books there
		}
		line := path
		if st, err := e.Info(); err == nil {
			line += " " + st.Mode().String()
			if st.Mode().IsRegular() && filepath.Dir(path) != "/run/netns" {
				text, _ := os.ReadFile(path)
				line += fmt.Sprintf(" %q", text)
			}
		}
		lines = append(lines, line)
	})
	return strings.Join(lines, "\n")
}

func walk(t testing.TB, root string, fn func(string, fs.DirEntry)) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err == nil {
			fn(path, e)
		}
		return nil // gone between listing and look
	})
	if err != nil {
		t.Fatal(err)
	}
}
