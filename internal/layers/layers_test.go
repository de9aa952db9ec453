package layers

import (
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/nsbpf/nsbpf"

// arrows says which of our packages each package may import, tests aside.
// Anything else is against the direction in which the rooms depend on each
// other (docs/ARCHITECTURE.md).
var arrows = map[string][]string{
	"internal/hop":   {},
	"internal/rtnl":  {},
	"internal/netns": {"internal/rtnl"},
	"internal/rcu":   {},
	"examples":       {},
	"bpf":            {"internal/hop"},
	"topology":       {"examples", "internal/hop", "internal/netns", "internal/rtnl"},
	"loader":         {"bpf", "topology", "internal/hop", "internal/netns", "internal/rcu", "internal/rtnl"},
	"collector":      {"bpf", "internal/hop"},
	"trace":          {"collector", "internal/hop"},
	"trace/filter":   {"bpf"},
	"report":         {"trace", "collector", "bpf", "topology", "internal/hop"},
	"bench":          {"loader", "collector", "internal/netns"},
	"cmd/nsbpf": {"bench", "bpf", "collector", "loader", "report", "topology", "trace", "trace/filter",
		"internal/hop", "internal/netns", "internal/rcu"},
	"internal/testenv": {"internal/netns", "internal/rtnl"},
	"internal/layers":  {},
}

func TestArrows(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	seen := make(map[string]bool)
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		pkg := short(fields[0])
		seen[pkg] = true
		allowed, ok := arrows[pkg]
		if !ok {
			t.Errorf("package %s is in no layer (add it to arrows)", pkg)
			continue
		}
		for _, imp := range fields[1:] {
			if !strings.HasPrefix(imp, module) {
				continue
			}
			if !slices.Contains(allowed, short(imp)) {
				t.Errorf("%s must not import %s", pkg, short(imp))
			}
		}
	}
	for pkg := range arrows {
		if !seen[pkg] {
			t.Errorf("arrows names %s, which does not exist", pkg)
		}
	}
}

// The pure rooms decide; they neither ask the machine nor tell the user.
func TestPureRooms(t *testing.T) {
	impure := []string{"os/exec", "log", "log/slog", "net/http", "github.com/vishvananda/netlink"}
	for _, pkg := range []string{"internal/hop", "trace", "trace/filter", "report"} {
		out, err := exec.Command("go", "list", "-f", `{{join .Imports " "}}`, path.Join(module, pkg)).Output()
		if err != nil {
			t.Fatalf("go list %s: %v", pkg, err)
		}
		for _, imp := range strings.Fields(string(out)) {
			if slices.Contains(impure, imp) {
				t.Errorf("%s is pure and must not import %s", pkg, imp)
			}
		}
	}
}

// One package moves threads between namespaces, and one dumps by netlink
// without a retry of its own.
func TestGuardedCalls(t *testing.T) {
	for _, tc := range []struct {
		call  string
		rooms []string
	}{
		{"LockOSThread(", []string{"internal/netns/"}},
		{"unix.Setns(", []string{"internal/netns/"}},
		{"netlink.LinkList(", []string{"internal/rtnl/"}},
		{"netlink.RouteList(", []string{"internal/rtnl/"}},
		{"netlink.AddrList(", []string{"internal/rtnl/"}},
	} {
		out, _ := exec.Command("git", "grep", "-lF", "--untracked", tc.call, "--", ":/*.go").Output()
		for file := range strings.Lines(string(out)) {
			file = strings.TrimPrefix(strings.TrimSpace(file), "../../")
			if file == "internal/layers/layers_test.go" {
				continue
			}
			if !slices.ContainsFunc(tc.rooms, func(r string) bool { return strings.HasPrefix(file, r) }) {
				t.Errorf("%s calls %s, which only %v may", file, tc.call, tc.rooms)
			}
		}
	}
}

func short(importPath string) string {
	return strings.TrimPrefix(strings.TrimPrefix(importPath, module), "/")
}
