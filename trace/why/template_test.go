package why

import (
	"strings"
	"testing"
)

func TestFill(t *testing.T) {
	value := func(name string) string { return map[string]string{"a": "A", "b": "[B]", "v6": "fd16::1"}[name] }
	for _, tt := range []struct {
		text, want string
		ok         bool
	}{
		{"", "", true},
		{"plain", "plain", true},
		{"{a} and {b}", "A and [B]", true},
		{"{c}", "", false},
		{"at {a}[ by {b}][ in {c}].", "at A by [B].", true},
		{"[{c}]", "", true},
		{"host {v6}[, {a} {c}]", "host fd16::1", true},
		{"open {a", "open A", true},
		{"open [{a", "open A", true},
	} {
		if got, ok := fill(tt.text, value); got != tt.want || ok != tt.ok {
			t.Errorf("fill(%q) = %q, %t, want %q, %t", tt.text, got, ok, tt.want, tt.ok)
		}
	}
}

// FuzzFill checks that any text can be filled, and that of a text where nothing is
// to be filled in nothing is lost.
func FuzzFill(f *testing.F) {
	for i := range causes().Causes {
		f.Add(causes().Causes[i].Say)
		f.Add(causes().Causes[i].Do)
	}
	f.Fuzz(func(t *testing.T, text string) {
		full, ok := fill(text, func(string) string { return "x" })
		if !ok {
			t.Errorf("every value is known, and %q cannot be filled", text)
		}
		if !strings.ContainsAny(text, "[{") && full != text {
			t.Errorf("%q became %q", text, full)
		}
		fill(text, func(string) string { return "" })
	})
}
