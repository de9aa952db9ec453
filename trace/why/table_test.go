package why

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nsbpf/nsbpf/trace"
)

var (
	code     = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	kernel   = regexp.MustCompile(`^([A-Z0-9_]+|\*)?(@[a-z0-9_]+\*?)?$`)
	template = regexp.MustCompile(`\{([^{}]*)\}`)
)

// TestTable checks that each cause can be found and said.
func TestTable(t *testing.T) {
	used := make(map[string]bool)
	uses := func(k *cause, name string) {
		used[name] = true
		if values[name] == nil {
			t.Errorf("%s (%s): there is no value %q", k.Code, k.Say, name)
		}
	}
	arms := map[string]bool{armFunctions: true} // by the code
	for i := range causes().Causes {
		k := &causes().Causes[i]
		if !code.MatchString(k.Code) || k.Say == "" {
			t.Errorf("code %q says %q", k.Code, k.Say)
		}
		if kinds := count(len(k.Kernel) > 0, k.Filtered, k.Lost); kinds != 1 {
			t.Errorf("%s (%s): is of %d kinds", k.Code, k.Say, kinds)
		}
		for _, p := range k.Kernel {
			if !kernel.MatchString(p) || p == "" {
				t.Errorf("%s: kernel %q", k.Code, p)
			}
		}
		for name := range k.When {
			uses(k, name)
		}
		for _, text := range []string{k.Place, k.Say, k.Do} {
			if rest := template.ReplaceAllString(text, ""); strings.ContainsAny(rest, "{}") || strings.Count(rest, "[") != strings.Count(rest, "]") {
				t.Errorf("%s: brackets in %q", k.Code, text)
			}
			for _, m := range template.FindAllStringSubmatch(text, -1) {
				uses(k, m[1])
			}
		}
		for _, a := range k.Arm {
			arms[a] = true
			if causes().Arms[a] == "" {
				t.Errorf("%s: there is no arm %q", k.Code, a)
			}
		}
		if len(k.Arm) > 0 && !k.Uncertain {
			t.Errorf("%s (%s): is certain, and yet more would be known", k.Code, k.Say)
		}
	}
	for name := range values {
		if !used[name] {
			t.Errorf("no cause asks for %q", name)
		}
	}
	for a := range causes().Arms {
		if !arms[a] {
			t.Errorf("no cause has arm %q", a)
		}
	}
}

func count(all ...bool) (n int) {
	for _, b := range all {
		if b {
			n++
		}
	}
	return n
}

// TestValuesAreDocumented looks up each value in docs/drops.md.
func TestValuesAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/drops.md")
	if err != nil {
		t.Fatal(err)
	}
	for name := range values {
		if !strings.Contains(string(text), "`"+name+"`") {
			t.Errorf("docs/drops.md does not speak of %q", name)
		}
	}
}

// TestReachable checks that no cause stands behind one that always comes first.
func TestReachable(t *testing.T) {
	all := causes().Causes
	for i := range all {
		for j := range all[:i] {
			k, first := &all[i], &all[j]
			if first.Harmless != k.Harmless || first.Lost != k.Lost || first.Filtered != k.Filtered || !first.always() {
				continue
			}
			if !slices.ContainsFunc(k.Kernel, func(p string) bool { return !slices.Contains(first.Kernel, p) }) {
				t.Errorf("%s (%s) is never reached: %s (%s) comes first", k.Code, k.Say, first.Code, first.Say)
			}
		}
	}
}

// always says whether k suits whatever the values are, of those that can be missing.
func (k *cause) always() bool {
	nothing := func(name string) string {
		if name == "node" || name == "exec" || name == "reason" || name == "at" {
			return "x"
		}
		return ""
	}
	for _, text := range []string{k.place(), k.Say, k.Do} {
		if _, ok := fill(text, nothing); !ok {
			return false
		}
	}
	return len(k.When) == 0
}

// TestReasons checks that the table has something to say of each reason that a
// kernel is known to give, with nothing known but the reason.
func TestReasons(t *testing.T) {
	text, err := os.ReadFile("testdata/reasons.txt")
	if err != nil {
		t.Fatal(err)
	}
	checkReasons(t, strings.Fields(string(text)))
}

func checkReasons(t *testing.T, reasons []string) {
	t.Helper()
	if len(reasons) < 60 {
		t.Errorf("there are %d reasons only", len(reasons))
	}
	for _, r := range reasons {
		named := false
		for i := range causes().Causes {
			named = named || slices.ContainsFunc(causes().Causes[i].Kernel, func(p string) bool {
				reason, _, _ := strings.Cut(p, "@")
				return reason == r
			})
		}
		if !named {
			t.Errorf("the table does not know %s", r)
		}
		p := pathOf(sighting(udp4), trace.Drop{Reason: r, Node: "host"})
		if c := Explain(Case{Path: p}); c.Sentence == "" && !Harmless(&p.Drops[0]) {
			t.Errorf("nothing is said of %s", r)
		}
	}
}

// TestNamesAreKernels checks that no reason of the table is misspelt.
func TestNamesAreKernels(t *testing.T) {
	text, err := os.ReadFile("testdata/reasons.txt")
	if err != nil {
		t.Fatal(err)
	}
	known := strings.Fields(string(text))
	for i := range causes().Causes {
		for _, p := range causes().Causes[i].Kernel {
			if r, _, _ := strings.Cut(p, "@"); r != "" && r != "*" && !slices.Contains(known, r) {
				t.Errorf("%s: no kernel is known to say %s", causes().Causes[i].Code, r)
			}
		}
	}
}
