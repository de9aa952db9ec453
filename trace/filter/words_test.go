package filter

import (
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestWords checks that each word is one of the language, and that no condition
// begins with a word that is missing.
func TestWords(t *testing.T) {
	var texts []string
	for _, w := range Words() {
		texts = append(texts, w.Text)
		if w.Help == "" || strings.Contains(w.Help, "\n") {
			t.Errorf("%s: help %q", w.Text, w.Help)
		}
		if _, err := Parse(w.Text); err != nil && strings.Contains(err.Error(), "is not") {
			t.Error(err)
		}
	}
	if unique := slices.Compact(slices.Sorted(slices.Values(texts))); len(unique) != len(texts) {
		t.Errorf("a word is there twice: %q", texts)
	}
	canonical := regexp.MustCompile(`[a-z][a-z0-9-]*`)
	for _, expr := range append(someExprs(12, 200), ownExprs...) {
		first := canonical.FindString(mustParse(t, expr).String())
		if first != "" && !slices.Contains(texts, first) {
			t.Errorf("%q is missing", first)
		}
	}
}

// TestGenerators checks that every word of libpcap's is in generated expressions
// that hold for some generated frames and not for others.
func TestGenerators(t *testing.T) {
	g := exprs{rand.New(rand.NewPCG(13, 1))}
	all := someFrames(13, 4000, true)
	reached := map[string]bool{}
	word := regexp.MustCompile(`[a-z][a-z0-9-]*`)
	for range 50000 {
		expr := g.condition()
		if g.IntN(10) == 0 {
			expr = g.expr(0)
		}
		used := word.FindAllString(expr, -1)
		if !slices.ContainsFunc(used, func(w string) bool { return !reached[w] }) {
			continue
		}
		e := mustParse(t, expr)
		holds := func(f []byte) bool { return e.Match(readFrame(f)) }
		if slices.ContainsFunc(all, holds) && slices.ContainsFunc(all, func(f []byte) bool { return !holds(f) }) {
			for _, w := range used {
				reached[w] = true
			}
		}
	}
	// No frame has these types; by their number they are reached like the others.
	rare := regexp.MustCompile(`^icmp6?-[a-z0-9]+$`)
	for _, w := range Words() {
		if !w.Own && !reached[w.Text] && !rare.MatchString(w.Text) {
			t.Errorf("%s is in no expression that holds here and there", w.Text)
		}
	}
	for _, w := range []string{"icmp-echo", "icmp-unreach", "icmp6-echo", "icmp6-neighborsolicit"} {
		if !reached[w] {
			t.Errorf("%s is in no expression that holds here and there", w)
		}
	}
}
