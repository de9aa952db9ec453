package layers

import (
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/nsbpf/nsbpf"

// arrows says which of our packages each package may import, tests aside.
// Anything else is against the direction in which the rooms depend on each
// other (docs/ARCHITECTURE.md).
var arrows = map[string][]string{
	"internal/hop":     {},
	"internal/rtnl":    {},
	"internal/netns":   {"internal/rtnl"},
	"internal/rcu":     {},
	"internal/nearest": {},
	"internal/source":  {"internal/nearest"},
	"examples":         {},
	"bpf":              {"internal/hop"},
	"topology":         {"examples", "internal/hop", "internal/nearest", "internal/netns", "internal/rtnl", "internal/source"},
	"loader":           {"bpf", "topology", "internal/hop", "internal/netns", "internal/rcu", "internal/rtnl"},
	"collector":        {"bpf", "internal/hop"},
	"trace":            {"bpf", "collector", "trace/filter", "internal/hop"},
	"trace/filter":     {"bpf", "internal/hop", "internal/nearest"},
	"trace/recording":  {"bpf", "collector", "forward", "trace", "trace/filter", "internal/hop"},
	"trace/why":        {"bpf", "collector", "forward", "trace", "internal/hop"},
	"trace/diff":       {"collector", "trace", "trace/recording", "internal/hop"},
	"forward":          {"topology", "internal/hop", "internal/nearest", "internal/netns", "internal/rtnl"},
	"rulings":          {"bpf", "collector", "trace", "internal/hop", "internal/netns"},
	"ping":             {"bpf", "collector", "forward", "trace", "internal/hop", "internal/netns"},
	"assert":           {"ping", "topology", "trace", "trace/why", "internal/hop", "internal/nearest", "internal/source"},
	"bench/stat":       {},
	"bench/result":     {"bench/stat"},
	"bench/compare":    {"bench/result", "bench/stat"},
	"bench/format":     {"bench/compare", "bench/result"},
	"bench/chart":      {"bench/result"},
	"report":           {"bench/compare", "bench/result", "bench/stat", "assert", "trace", "trace/diff", "trace/why", "collector", "bpf", "topology", "forward", "ping", "internal/hop"},
	"bench":            {"bench/load", "bench/result", "bench/stat", "loader", "collector", "internal/netns", "internal/rtnl"},
	"bench/load":       {"bpf", "collector", "internal/netns", "internal/rtnl"},
	"cmd/nsbpf": {"assert", "bench", "bench/chart", "bench/compare", "bench/format", "bench/load", "bench/result", "bench/stat",
		"bpf", "collector", "loader", "report", "topology", "trace", "trace/filter",
		"trace/diff", "trace/recording", "trace/why", "forward", "ping", "rulings", "rulings",
		"internal/hop", "internal/nearest", "internal/netns", "internal/rcu"},
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
	for _, pkg := range []string{"bench/chart", "bench/compare", "bench/format", "bench/result", "bench/stat", "assert", "internal/hop", "internal/nearest", "internal/source", "trace", "trace/diff", "trace/filter", "trace/recording", "trace/why", "report"} {
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
	guarded := map[string]string{
		"LockOSThread(":      "internal/netns",
		"unix.Setns(":        "internal/netns",
		"netlink.LinkList(":  "internal/rtnl",
		"netlink.RouteList(": "internal/rtnl",
		"netlink.AddrList(":  "internal/rtnl",
		".AddrList(":         "internal/rtnl",
		".RouteList(":        "internal/rtnl",
	}
	const root = "../.."
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(file) != ".go" {
			return err
		}
		src, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		room, err := filepath.Rel(root, filepath.Dir(file))
		if err != nil {
			return err
		}
		for call, where := range guarded {
			if room != where && room != "internal/layers" && strings.Contains(string(src), call) {
				t.Errorf("%s calls %s, which only %s may", file, call, where)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func short(importPath string) string {
	return strings.TrimPrefix(strings.TrimPrefix(importPath, module), "/")
}
