package topology

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// same compares plain data, as this package has it.
var same = cmp.Options{
	cmpopts.EquateEmpty(),
	cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}),
}

func prefixes(all ...string) []netip.Prefix {
	var p []netip.Prefix
	for _, s := range all {
		p = append(p, netip.MustParsePrefix(s))
	}
	return p
}

func parse(tb testing.TB, src string) *Topology {
	tb.Helper()
	return must[*Topology](tb)(Parse("dir/lab.yaml", []byte(src)))
}

// TestForms has texts that all mean the same.
func TestForms(t *testing.T) {
	want := &Topology{
		Name: "lab",
		Nodes: []Node{
			{Name: "a", Netns: "a", Routes: []Route{{netip.MustParsePrefix("::/0"), netip.MustParseAddr("fd00::2")}}},
			{Name: "b", Netns: "b"},
			{Name: "host"},
		},
		Bridges: []Bridge{{Name: "br", Node: "host", Addrs: prefixes("10.0.0.1/24", "fd00:0:0::1/64")}},
		Links: []Link{
			{
				A:   End{Node: "a", Device: "x", Addrs: prefixes("10.0.0.2/24", "fd00::3/64")},
				B:   End{Node: "host", Device: "y", Bridge: "br"},
				MTU: 1400,
			},
			{A: End{Node: "b", Device: "eth0"}, B: End{Node: "a", Device: "eth0"}},
		},
	}
	for name, src := range map[string]string{
		"flow": `
nodes: {a: {routes: [default via fd00::2]}}
bridges: {br: {addresses: [10.0.0.1/24, fd00:0:0::1/64]}}
links:
  - {a: a:x 10.0.0.2/24 fd00::3/64, b: br:y, mtu: 1400}
  - [b, a]
`,
		"block": `
links:
  - a:
      node: a
      device: x
      addresses:
        - 10.0.0.2/24
        - fd00::3/64
    b:
      bridge: br
      device: y
    mtu: 1400
  - - b
    - a
bridges:
  br:
    node: host
    addresses:
      - 10.0.0.1/24
      - fd00:0:0::1/64
nodes:
  a:
    routes: default via fd00::2
`,
		"quoted": `
"nodes": {"a": {"routes": ["default via fd00::2"]}}
"bridges": {"br": {"addresses": ["10.0.0.1/24", 'fd00:0:0::1/64']}}
"links":
  - {"a": "a:x  10.0.0.2/24 fd00::3/64 ", "b": 'br:y', "mtu": "1400"}
  - ["b", "a"]
`,
		"one line": `{nodes: {a: {routes: [default via fd00::2]}}, bridges: {br: {addresses: [10.0.0.1/24, fd00:0:0::1/64]}}, ` +
			`links: [{a: {node: a, device: x, addresses: [10.0.0.2/24, fd00::3/64]}, b: br:y, mtu: 1400}, [b:eth0, a]]}`,
		"crlf": strings.ReplaceAll("nodes: {a: {routes: [default via fd00::2]}}\nbridges: {br: {addresses: [10.0.0.1/24, fd00:0:0::1/64]}}\n"+
			"links:\n  - {a: a:x 10.0.0.2/24 fd00::3/64, b: br:y, mtu: 1400}\n  - [b, a]\n", "\n", "\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(want, parse(t, src), same...); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestDeviceNames(t *testing.T) {
	topo := parse(t, `
nodes: {sw: }
bridges: {br0: , inner: {node: sw}}
links:
  - [a:eth1, b]
  - [a, b]
  - [a, b]
  - [a, br0]
  - [a, br0]
  - [a, host]
  - [a-long-name, br0]
  - [inner, br0]
`)
	var got []string
	for _, l := range topo.Links {
		for _, e := range []End{l.A, l.B} {
			got = append(got, strings.TrimSpace(e.Node+":"+e.Device+" "+e.AltName))
		}
	}
	want := []string{
		"a:eth1", "b:eth0",
		"a:eth0", "b:eth1",
		"a:eth2", "b:eth2",
		"a:eth3", "host:a-br0-veth",
		"a:eth4", "host:a-br0-veth2",
		"a:eth5", "host:a-host-veth",
		"a-long-name:eth0", "host:a-long-n-35ffa8 a-long-name-br0-veth",
		"sw:br0-inner-veth", "host:inner-br0-veth",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestPresets(t *testing.T) {
	if diff := cmp.Diff([]string{"bridge", "nat", "pair"}, Presets()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, p := range Presets() {
		if got := load(t, p).Name; got != p {
			t.Errorf("preset %s makes lab %q", p, got)
		}
	}
}

func TestExamples(t *testing.T) {
	files, err := filepath.Glob("../examples/*.yaml")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d examples, %v", len(files), err)
	}
	for _, f := range files {
		topo := load(t, f)
		if base := strings.TrimSuffix(filepath.Base(f), ".yaml"); topo.Name != base {
			t.Errorf("%s makes lab %q", f, topo.Name)
		}
		golden(t, topo.Name, topo.Plan().Script())
	}
}

func TestLoadWrong(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("bare", []byte("links: [[a, b]]"), 0o666); err != nil {
		t.Fatal(err)
	}
	if got := load(t, "bare").Name; got != "bare" {
		t.Errorf("file without extension makes lab %q", got)
	}
	for arg, want := range map[string]string{
		"brigde":      `unknown preset "brigde" (did you mean "bridge"? presets are bridge, nat, pair; a file is named by its path, such as ./brigde.yaml)`,
		"x":           `unknown preset "x" (presets are bridge, nat, pair; a file is named by its path, such as ./x.yaml)`,
		"./none.yaml": `reading a topology: open ./none.yaml: no such file or directory (give the path of a file, or a preset: bridge, nat, pair)`,
		".":           `reading a topology: read .: is a directory (give the path of a file, or a preset: bridge, nat, pair)`,
		"":            `unknown preset "" (presets are bridge, nat, pair; a file is named by its path, such as ./lab.yaml)`,
	} {
		if _, err := Load(arg); err == nil || err.Error() != want {
			t.Errorf("Load(%q):\n got %v\nwant %s", arg, err, want)
		}
	}
}

// FuzzParse checks that a topology which Parse takes can be planned, printed,
// changed and watched, and keeps what JSON and a second reading make of it.
func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("../examples/*.yaml")
	for _, name := range files {
		src, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src)
	}
	f.Add([]byte(`{nodes: {a: {sysctls: {net.ipv4.x: "it's"}}}, links: [[a:b fd00::1/64, b], &x [c, d], *x]}`))
	f.Fuzz(func(t *testing.T, src []byte) {
		topo, err := Parse("lab.yaml", src)
		if err != nil {
			if err.Error() == "" || explain(err) == "" {
				t.Fatal("an error without text")
			}
			return
		}
		b, err := json.Marshal(topo)
		if err != nil {
			t.Fatal(err)
		}
		var back Topology
		if err := json.Unmarshal(b, &back); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(topo, &back, same...); diff != "" {
			t.Fatalf("after JSON (-want +got):\n%s", diff)
		}
		for _, v := range changed(topo) {
			checkPlan(t, v)
			checkHops(t, v)
		}
		if after, _ := json.Marshal(topo); !bytes.Equal(b, after) {
			t.Fatalf("a transform changed its receiver from %s to %s", b, after)
		}
	})
}
