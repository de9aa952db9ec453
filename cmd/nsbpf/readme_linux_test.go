package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nsbpf/nsbpf/internal/testenv"
)

// TestReadmeBlocks runs the console blocks of the README and of the documents on
// tracing and probing, those of a file in their order, and compares what they
// print. See [sameOutput].
func TestReadmeBlocks(t *testing.T) {
	testenv.Root(t)
	for _, tt := range []struct {
		file  string
		tools []string
	}{
		{"README.md", []string{"ping", "nft"}},
		{"docs/trace.md", []string{"ping", "nft", "tshark", "capinfos"}},
		{"docs/ping.md", []string{"nft"}},
	} {
		t.Run(filepath.Base(tt.file), func(t *testing.T) {
			for _, tool := range tt.tools {
				testenv.Tool(t, tool)
			}
			runBlocks(t, tt.file)
		})
	}
}

func runBlocks(t *testing.T, file string) {
	text, err := os.ReadFile(filepath.Join("../..", file))
	if err != nil {
		t.Fatal(err)
	}
	leavesNothing(t)
	commands := consoleCommands(string(text))
	if len(commands) == 0 {
		t.Fatal("no console block")
	}
	recordings := t.TempDir()
	examples, err := filepath.Abs("../../examples")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(examples, filepath.Join(recordings, "examples")); err != nil {
		t.Fatal(err)
	}
	for _, c := range commands {
		sh := exec.Command("sh", "-c", c.line)
		sh.Dir = recordings
		out, err := sh.CombinedOutput()
		if err != nil {
			t.Errorf("$ %s\n%v", c.line, err)
		}
		got := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
		if !sameOutput(c.output, got) {
			t.Errorf("$ %s\nprints\n%s\n%s has\n%s", c.line, out, file, strings.Join(c.output, "\n"))
		}
	}
}

// consoleCommand is a line behind a $ and the output that follows.
type consoleCommand struct {
	line   string
	output []string
}

func consoleCommands(markdown string) (all []consoleCommand) {
	inside := false
	for line := range strings.Lines(markdown) {
		line = strings.TrimSuffix(line, "\n")
		command, isCommand := strings.CutPrefix(line, "$ ")
		switch {
		case strings.HasPrefix(line, "```"):
			inside = line == "```console"
		case !inside:
		case isCommand:
			all = append(all, consoleCommand{line: command})
		case len(all) > 0:
			last := &all[len(all)-1]
			last.output = append(last.output, line)
		}
	}
	return all
}

// number is one that is another each time: it stands alone, and is no part of
// an address or a name. Durations have a unit behind them.
var number = regexp.MustCompile(`(^|[\s+=(])[0-9]+(\.[0-9]+)?((/[0-9.]+)+|$|[\s,%:)])`)

// port is one that the kernel chose for a client.
var port = regexp.MustCompile(`:[3-6][0-9]{4}$`)

// sameOutput reports whether got is what is wanted, where a line … stands for any
// lines, … within a line for anything, and any number and any column's width for
// another.
func sameOutput(want, got []string) bool {
	if len(want) == 0 {
		return strings.Join(got, "") == ""
	}
	if want[0] == "…" {
		for i := range len(got) + 1 {
			if len(want) == 1 || sameOutput(want[1:], got[i:]) {
				return true
			}
		}
		return false
	}
	return len(got) > 0 && sameLine(want[0], got[0]) && (len(want) == 1 && len(got) == 1 || sameOutput(want[1:], got[1:]))
}

func sameLine(want, got string) bool {
	pattern := regexp.QuoteMeta(shape(want))
	pattern = strings.ReplaceAll(pattern, "…", ".*")
	return regexp.MustCompile("^" + pattern + "$").MatchString(shape(got))
}

// shape is a line without what differs each time.
func shape(line string) string {
	words := strings.Fields(line)
	for i, w := range words {
		words[i] = port.ReplaceAllString(number.ReplaceAllString(w, "${1}N"), ":PORT")
	}
	return strings.NewReplacer("N ms", "N TIME", "N µs", "N TIME", "N ns", "N TIME").Replace(strings.Join(words, " "))
}

func TestSameOutput(t *testing.T) {
	for _, tt := range []struct {
		want, got string
		same      bool
	}{
		{"a", "a", true},
		{"a", "b", false},
		{"a\nb", "a", false},
		{"a", "a\nb", false},
		{"a\n…\nd", "a\nb\nc\nd", true},
		{"a\n…\nd", "a\nd", true},
		{"a\n…\nd", "a\nb", false},
		{"…", "a\nb", true},
		{"up in …: 2 nodes", "up in 1 s: 3 nodes", true},
		{"up in …: nodes", "up in 1 s: links", false},
		{"up in 12.5 ms:", "up in 7 ms:", true},
		{"  a out   +10.2 µs", "  a out  +998 µs", true},
		{"in 172.16.16.10 b", "in 172.16.16.20 b", false},
		{"TCP 10.0.0.1:40112 > 10.0.0.2:99", "TCP 10.0.0.1:50444 > 10.0.0.2:99", true},
		{"TCP 10.0.0.1:40112 > 10.0.0.2:99", "TCP 10.0.0.1:40112 > 10.0.0.2:98", false},
		{"p50 935 ns", "p50 1.04 µs", true},
		{"about 336 paths (253 to 445)", "about 8 paths (1 to 40)", true},
		{"id 7 seq 1  98 B", "id 30044 seq 1  98 B", true},
		{"left:left-veth  tcx  7", "left:left-veth  xdp  7", false},
		{"", "", true},
		{"", "a", false},
	} {
		got := sameOutput(strings.Split(tt.want, "\n"), strings.Split(tt.got, "\n"))
		if got != tt.same {
			t.Errorf("sameOutput(%q, %q) = %v", tt.want, tt.got, got)
		}
	}
}
