package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/nsbpf/nsbpf/internal/testenv"
	"github.com/nsbpf/nsbpf/trace/why"
)

// fault is one reason for which packets die in the lab nat, and what is to be said
// of it.
type fault struct {
	name    string
	do      []string // makes it, each "NODE: COMMAND"
	arrange func(*testing.T)
	explain bool // the trace is to be told of rules
	send    sender
	expr    string    // chooses the packet; "": by its destination
	code    string    // of the conclusion
	says    [2]string // its sentence of IPv4 and of IPv6; "": there is nothing to try
}

// sender sends what dies, of IPv4 or of IPv6.
type sender func(t *testing.T, six bool)

// TestCauses makes each fault in a lab of its own, and checks what `nsbpf trace`
// says of a packet that dies of it.
func TestCauses(t *testing.T) {
	testenv.Root(t)
	var rows []string
	for _, f := range faults() {
		t.Run(f.name, func(t *testing.T) {
			if !testing.Short() {
				leavesNothing(t)
			}
			upLab(t, "nat", "--wan")
			warmUp(t)
			for _, line := range f.do {
				node, command, _ := strings.Cut(line, ": ")
				testenv.Run(t, "nsbpf", "exec", "nat/"+node, "--", "sh", "-ec", command)
			}
			if f.arrange != nil {
				f.arrange(t)
			}
			for six, want := range f.says {
				if want == "" {
					continue
				}
				t.Run([]string{"IPv4", "IPv6"}[six], func(t *testing.T) {
					rows = append(rows, f.check(t, six == 1, want))
				})
			}
		})
	}
	checkDocs(t, rows)
}

// warmUp has bridges and neighbours learn where everybody is.
func warmUp(t *testing.T) {
	for _, to := range []string{"8.8.8.8", "2001:4860:4860::8888", "172.16.16.20", "fd16::20"} {
		pingLeft(t, to)
	}
}

// check sends what dies, and returns what was said of it as a row of docs/drops.md.
func (f *fault) check(t *testing.T, six bool, want string) string {
	t.Helper()
	expr := f.expr
	if expr == "" {
		expr = []string{"dst host 8.8.8.8", "dst host 2001:4860:4860::8888"}[btoi(six)]
	}
	args := []string{"trace", "nat", "--json", "-c1", "--for=3s"}
	if f.explain {
		args = append(args, "--explain")
	}
	tr := startTrace(t, append(args, "("+expr+") and dropped")...)
	f.send(t, six)
	got := concludes(t, tr)
	if got == nil {
		t.Fatal("no packet died")
	}
	sentence := macs.ReplaceAllString(got.Sentence, "MAC")
	if got.Code != f.code || sentence != want {
		t.Errorf("concluded %s\n got %q\nwant %q\n%+q", got.Code, sentence, want, got.Evidence)
	}
	kernel := "nothing"
	if len(got.Evidence) > 0 {
		if rest, ok := strings.CutPrefix(got.Evidence[0], "kernel: "); ok {
			kernel, _, _ = strings.Cut(rest, ",")
		}
	}
	return fmt.Sprintf("| %s, %s | `%s` | %s |", f.name, []string{"IPv4", "IPv6"}[btoi(six)], kernel,
		strings.ReplaceAll(sentence, "|", `\|`))
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

var macs = regexp.MustCompile(`([0-9a-f]{2}:){5}[0-9a-f]{2}`)

// concludes waits for the trace's end and returns why its path ended, or nil.
func concludes(t *testing.T, tr *background) *why.Conclusion {
	t.Helper()
	var talk strings.Builder
	if _, err := io.Copy(&talk, tr.stderr); err != nil {
		t.Error(err)
	}
	if err := tr.cmd.Wait(); err != nil {
		t.Fatalf("trace: %v\n%s", err, talk.String())
	}
	for dec := json.NewDecoder(&tr.stdout); dec.More(); {
		var doc struct{ Conclusion *why.Conclusion }
		if err := dec.Decode(&doc); err != nil {
			t.Fatal(err)
		}
		if doc.Conclusion != nil {
			return doc.Conclusion
		}
	}
	return nil
}

// checkDocs looks up in docs/drops.md what was said, and rewrites its table if
// UPDATE_DOCS is set.
func checkDocs(t *testing.T, rows []string) {
	const file, begin, end = "../../docs/drops.md", "<!-- causes -->\n", "<!-- end -->"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	table, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", file)
	}
	if os.Getenv("UPDATE_DOCS") != "" && !t.Failed() {
		table = "| what was wrong | the kernel said | nsbpf says |\n|---|---|---|\n" + strings.Join(rows, "\n") + "\n"
		if err := os.WriteFile(file, []byte(before+begin+table+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range rows {
		cells := strings.Split(row, " | ")
		if !strings.Contains(table, cells[len(cells)-1]) {
			t.Errorf("%s does not say %s (UPDATE_DOCS=1 rewrites its table)", file, cells[len(cells)-1])
		}
	}
}

// tried runs a command in a node, which may fail.
func tried(t *testing.T, node string, args ...string) {
	t.Helper()
	out, err := exec.Command(testenv.Tool(t, "nsbpf"), append([]string{"exec", "nat/" + node, "--"}, args...)...).CombinedOutput()
	t.Logf("%s: %s\n%s%v", node, strings.Join(args, " "), out, err)
}
