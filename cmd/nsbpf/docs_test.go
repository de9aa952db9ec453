package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nsbpf/nsbpf/trace/filter"
)

// TestJSONIsDocumented looks up each key of the golden documents in docs/json.md.
func TestJSONIsDocumented(t *testing.T) {
	known := codeWords(t, "../../docs/json.md")
	files, err := filepath.Glob("../../report/testdata/*.json")
	if err != nil || files == nil {
		t.Fatalf("no golden documents (%v)", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for dec := json.NewDecoder(strings.NewReader(string(text))); dec.More(); {
			var doc any
			if err := dec.Decode(&doc); err != nil {
				t.Fatal(err)
			}
			eachKey(doc, func(key string) {
				if !known[key] && key != "filter" { // a reason
					t.Errorf("%s: docs/json.md does not speak of %q", file, key)
				}
				known[key] = true
			})
		}
	}
}

// TestWordsAreDocumented looks up each word of the expressions in docs/trace.md.
func TestWordsAreDocumented(t *testing.T) {
	known := codeWords(t, "../../docs/trace.md")
	for _, w := range filter.Words() {
		if w.Form != "" && !known[w.Text] {
			t.Errorf("docs/trace.md does not speak of %q", w.Text)
		}
	}
}

var (
	code     = regexp.MustCompile("`[^`\n]+`")
	codeWord = regexp.MustCompile(`[a-z][a-z0-9_-]*`)
)

// codeWords returns the words that stand in the file between backquotes.
func codeWords(t *testing.T, file string) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	words := make(map[string]bool)
	for _, s := range code.FindAllString(string(text), -1) {
		for _, w := range codeWord.FindAllString(s, -1) {
			words[w] = true
		}
	}
	return words
}

// eachKey calls fn for the keys of all objects in v.
func eachKey(v any, fn func(string)) {
	switch v := v.(type) {
	case map[string]any:
		for k, below := range v {
			fn(k)
			eachKey(below, fn)
		}
	case []any:
		for _, below := range v {
			eachKey(below, fn)
		}
	}
}
