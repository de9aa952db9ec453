package nearest

import "testing"

func TestHint(t *testing.T) {
	names := []string{"left", "right", "host", "br0"}
	for s, want := range map[string]string{
		"lefft": `did you mean "left"?`, "rigth": `did you mean "right"?`, "br1": `did you mean "br0"?`,
		"Left": `did you mean "left"?`, "": "", "x": "", "elsewhere": "", "abc": "",
	} {
		if got := Hint(s, names); got != want {
			t.Errorf("Hint(%q) is %q, want %q", s, got, want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"", "ab", 2}, {"kitten", "sitting", 3}, {"ab", "ba", 2}, {"same", "same", 0}} {
		if got := distance(tt.a, tt.b); got != tt.want {
			t.Errorf("distance(%q, %q) is %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}
