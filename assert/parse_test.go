package assert

import (
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nsbpf/nsbpf/internal/source"
	"github.com/nsbpf/nsbpf/ping"
	"github.com/nsbpf/nsbpf/topology"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// everything has each field and each form.
const everything = `# What holds.
- left -> right icmp
- left -> 8.8.8.8 udp/53
- "left -x-> db ip6 tcp/5432"
- left -> fd16::20 icmp
- left -> right icmp6
- packet: left -> wan tcp/80
  name: the shop
  via: [left:left-veth, host:br0 in, host:eth0 out snat]
  source: 192.0.2.2
  within: 5s
- packet: left -> right icmp
  exactly: [left:left-veth]
  latency: {p50: < 100us, max: <= 5 ms}
  rtt: "> 1us"
  loss: < 1%
  count: 20
  interval: 2ms
  size: 1400
- packet: left -x-> wan udp/53
  dropped: {in: host, hook: forward, reason: netfilter_drop, by: table ip fw}
`

// everythingRead is what [everything] says.
var everythingRead = []Assertion{
	{Text: "left -> right icmp", From: "left", To: "right"},
	{Text: "left -> 8.8.8.8 udp/53", From: "left", To: "8.8.8.8", Dst: netip.MustParseAddr("8.8.8.8"), Proto: ping.UDP, Port: 53},
	{Text: "left -x-> db ip6 tcp/5432", From: "left", To: "db", Blocked: true, Six: true, Proto: ping.TCP, Port: 5432},
	{Text: "left -> fd16::20 icmp", From: "left", To: "fd16::20", Six: true, Dst: netip.MustParseAddr("fd16::20")},
	{Text: "left -> right icmp6", From: "left", To: "right", Six: true},
	{
		Text: "left -> wan tcp/80", Name: "the shop", From: "left", To: "wan", Proto: ping.TCP, Port: 80,
		Via: []Waypoint{
			{Text: "left:left-veth", Node: "left", Device: "left-veth"},
			{Text: "host:br0 in", Node: "host", Device: "br0", Way: "in"},
			{Text: "host:eth0 out snat", Node: "host", Device: "eth0", Way: "out", Changes: []string{"snat"}},
		},
		Source: netip.MustParseAddr("192.0.2.2"), Within: 5 * time.Second,
	},
	{
		Text: "left -> right icmp", From: "left", To: "right", Exactly: true,
		Via:     []Waypoint{{Text: "left:left-veth", Node: "left", Device: "left-veth"}},
		Latency: []Limit{{Of: "p50", Op: "<", Value: 1e5, text: "100us"}, {Of: "max", Op: "<=", Value: 5e6, text: "5 ms"}},
		RTT:     []Limit{{Of: "max", Op: ">", Value: 1e3, text: "1us"}},
		Loss:    &Limit{Op: "<", Value: 1, text: "1%"},
		Count:   20, Interval: 2 * time.Millisecond, Size: 1400,
	},
	{
		Text: "left -x-> wan udp/53", From: "left", To: "wan", Blocked: true, Proto: ping.UDP, Port: 53,
		Dropped: &Dropped{In: "host", Hook: "forward", Reason: "netfilter_drop", By: "table ip fw"},
	},
}

func TestParse(t *testing.T) {
	want := slices.Clone(everythingRead)
	for i, line := range []int{2, 3, 4, 5, 6, 7, 12, 20} {
		want[i].Line = line
		if want[i].Name == "" {
			want[i].Name = want[i].Text
		}
	}
	for _, form := range []string{everything, "name: lab\nlinks: [[left, right]]\nexpect:\n" + everything} {
		s, err := Parse("checks.yaml", []byte(form))
		if err != nil {
			t.Fatal(err)
		}
		got := s.Assertions
		for i := range got {
			got[i].Line -= strings.Count(form, "\n") - strings.Count(everything, "\n")
		}
		diff := cmp.Diff(want, got, cmp.AllowUnexported(Assertion{}, Limit{}), cmpopts.EquateComparable(netip.Addr{}),
			cmpopts.IgnoreFields(Assertion{}, "path"))
		if diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

// TestMistakes compares what is said of wrong files, all of it at once, with
// testdata/mistakes.golden.
func TestMistakes(t *testing.T) {
	files, err := filepath.Glob("testdata/wrong/*.yaml")
	if err != nil || files == nil {
		t.Fatalf("no wrong files (%v)", err)
	}
	lab, err := topology.Load("nat")
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Parse(filepath.Base(file), src)
		if err == nil {
			err = s.Fit(lab, noAddress)
		}
		if err == nil {
			t.Errorf("%s: nothing is said", file)
			continue
		}
		said := []error{err}
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			said = joined.Unwrap()
		}
		for _, one := range said {
			var mistake *source.Error
			if !errors.As(one, &mistake) {
				t.Fatalf("%s: %v has no place", file, one)
			}
			got.WriteString(one.Error() + "\n" + mistake.Excerpt())
		}
	}
	const golden = "testdata/mistakes.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got.String(), "\n")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func noAddress(_, to string, six bool) (netip.Addr, error) {
	if six {
		return netip.Addr{}, errors.New("node \"" + to + "\" has no IPv6 address")
	}
	return netip.MustParseAddr("172.16.16.20"), nil
}

// TestFit gives devices of the real host, which are called after the lab, their
// names of the kernel.
func TestFit(t *testing.T) {
	lab, err := topology.Load("nat")
	if err != nil {
		t.Fatal(err)
	}
	if lab, err = lab.Named("second"); err != nil {
		t.Fatal(err)
	}
	s, err := Parse("a.yaml", []byte("[{packet: left -> right icmp, via: [left:left-veth, host:left-br0-veth, host:br0]}]"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Fit(lab, noAddress); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range s.Assertions[0].Via {
		got = append(got, w.Node+":"+w.Device)
	}
	want := []string{"left:left-veth", "host:" + lab.Links[0].B.Device, "host:second-br0"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"- left -> right icmp", "expect: [a -x-> b tcp/1]", "- {packet: a -> b udp/1, via: [a:b in snat]}",
		"- packet: a -> b icmp\n  latency: {p50: < 1us}\n  loss: < 1%", "- >\n  a", "[[]]", "- {packet: {}}",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse("f.yaml", []byte(text))
		if err != nil {
			return
		}
		for _, a := range s.Assertions {
			if a.From == "" || a.To == "" || a.Text == "" || a.Line == 0 {
				t.Errorf("%q has %+v", text, a)
			}
			again, err := Parse("f.yaml", []byte("- "+quoted(a.Text)))
			if err != nil || again.Assertions[0].Text != a.Text || again.Assertions[0].Port != a.Port {
				t.Errorf("%q is not read again: %v", a.Text, err)
			}
		}
	})
}

// quoted quotes for YAML what may have any character but a newline.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
