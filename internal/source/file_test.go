package source

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestWords checks that words stand where they are, behind quotes and beside
// characters of several bytes.
func TestWords(t *testing.T) {
	for text, want := range map[string][]Word{
		"- one two":      {{"one", Place{1, 3}}, {"two", Place{1, 7}}},
		`- "one  two"`:   {{"one", Place{1, 4}}, {"two", Place{1, 9}}},
		"- 'µ é x'":      {{"µ", Place{1, 4}}, {"é", Place{1, 6}}, {"x", Place{1, 8}}},
		"# first\n-   a": {{"a", Place{2, 5}}},
	} {
		f, root := Read("a.yaml", []byte(text), "one list")
		item := f.List(Node{Node: root}, "list")[0]
		line, ok := f.Text(item, "item")
		if !ok || f.Wrong() {
			t.Fatalf("%q: %v", text, f.Err())
		}
		if diff := cmp.Diff(want, f.Words(item, line)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
}

// TestMistake checks that a mistake about what does not stand in the file is told of
// what is around it, and that all are told in the order of the file.
func TestMistake(t *testing.T) {
	f, root := Read("a.yaml", []byte("a:\n  b: 1\nc: 2"), "one thing")
	entries, ok := f.Mapping(Node{Node: root}, "the file")
	if !ok {
		t.Fatal(f.Err())
	}
	f.Mapping(entries[0].Value, "a")
	f.Mistake("c.missing[3]", "last", "")
	f.Mistake("a.b.c", "first", "mend it")
	want := "a.yaml:2:3: first (mend it)\na.yaml:3:1: last"
	if got := f.Err().Error(); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestExcerpt(t *testing.T) {
	e := Error{File: "a.yaml", Line: 12, Col: 4, Source: "\té: x"}
	if want := "  12 | \té: x\n     | \t  ^\n"; e.Excerpt() != want {
		t.Errorf("%q, want %q", e.Excerpt(), want)
	}
	if e.Line = 0; e.Excerpt() != "" {
		t.Errorf("%q of no file", e.Excerpt())
	}
}

// TestSyntax reads what is not YAML, or not what is supported of it.
func TestSyntax(t *testing.T) {
	for text, want := range map[string]string{
		"a: [":         "YAML: ",
		"a: > 1ms":     "quote what begins with > or |",
		"a\n---\nb":    "a file holds one thing",
		"- &x a\n- *x": "YAML anchors and aliases are not supported",
		"- !!str a":    "YAML tags are not supported",
	} {
		f, root := Read("a.yaml", []byte(text), "one thing")
		if !f.Wrong() {
			for _, item := range f.List(Node{Node: root}, "list") {
				f.Text(item, "item")
			}
		}
		if err := f.Err(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
