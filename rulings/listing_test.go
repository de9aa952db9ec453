package rulings

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseListing(t *testing.T) {
	const text = `table ip fw {
	set blocked { # handle 3
		type ipv4_addr
		elements = { 10.0.0.1 }
	}

	chain flt { # handle 1
		comment "policy # handle 9"
		type filter hook forward priority filter; policy drop;
		udp dport 9999 counter drop # handle 4
		ip saddr { 10.0.0.1, 10.0.0.2,
			   10.0.0.3 } jump some # handle 5
		tcp dport 80 accept comment "web # handle 7" # handle 6
		ct state vmap { established : accept,
				invalid : drop } # handle 18446744073709551615
		log prefix "x" # handle 99999999999999999999
	}
}
`
	want := map[uint64]string{
		4:         "udp dport 9999 counter drop",
		5:         "ip saddr { 10.0.0.1, 10.0.0.2, 10.0.0.3 } jump some",
		6:         `tcp dport 80 accept comment "web # handle 7"`,
		1<<64 - 1: "ct state vmap { established : accept, invalid : drop }",
	}
	if diff := cmp.Diff(want, parseListing(text)); diff != "" {
		t.Error(diff)
	}
}

func TestFill(t *testing.T) {
	match, target := `xt match "bpf"`, `xt target "MASQUERADE"`
	tests := []struct {
		listed  string
		foreign []string
		want    string
	}{
		{"counter masquerade", []string{target}, "counter masquerade"}, // printed
		{"counter ", []string{target}, "counter " + target},
		{"", []string{target}, target},
		{" drop", []string{match}, match + " drop"},
		{"tcp  counter ", []string{match, target}, "tcp " + match + " counter " + target},
		{"tcp dport 80 counter ", []string{match, target}, "tcp dport 80 counter " + match + " " + target},
		{`comment "a  b"`, nil, `comment "a  b"`},
	}
	for _, c := range tests {
		if got := fill(c.listed, c.foreign); got != c.want {
			t.Errorf("%q: %q, want %q", c.listed, got, c.want)
		}
	}
}

func TestIdentifier(t *testing.T) {
	for name, want := range map[string]bool{
		"FORWARD": true, "nsbpf-nat": true, "DOCKER-ISOLATION-STAGE-1": true, "a.b_c/d": true,
		"": false, "x;flush": false, "x y": false, "-f": false, "1": false, "x\n": false, `"x"`: false,
	} {
		if got := identifier.MatchString(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}

func FuzzParseListing(f *testing.F) {
	f.Add("\t\tdrop # handle 1\n")
	f.Add("\t\ta {\n\t\t\tb } # handle 2\n\t}\n")
	f.Fuzz(func(t *testing.T, text string) {
		for handle, rule := range parseListing(text) {
			if strings.Contains(rule, "\n") {
				t.Errorf("handle %d: %q", handle, rule)
			}
		}
	})
}
