package topology

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares got with testdata/name.golden.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; -update rewrites it):\n%s", file, diff)
	}
}

// must returns t or ends the test.
func must[T any](tb testing.TB) func(t T, err error) T {
	return func(v T, err error) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

func load(tb testing.TB, name string) *Topology {
	tb.Helper()
	return must[*Topology](tb)(Load(name))
}

// variants returns each preset as the options of `up` change it.
func variants(tb testing.TB) map[string]*Topology {
	ok := must[*Topology](tb)
	all := map[string]*Topology{}
	for _, preset := range Presets() {
		t := load(tb, preset)
		all[preset] = t
		all[preset+"-isolated"] = t.Isolated()
		all[preset+"-name"] = ok(t.Named("lab-of-mine"))
		all[preset+"-isolated-name"] = ok(t.Isolated().Named("lab-of-mine"))
		if preset != "pair" {
			all[preset+"-wan"] = ok(t.WithWAN())
		}
	}
	all["nat-uplinks"] = load(tb, "nat").WithUplinks([]string{"eth0", "eth1.7"})
	return all
}

func TestPlan(t *testing.T) {
	for name, topo := range variants(t) {
		t.Run(name, func(t *testing.T) { golden(t, name, topo.Plan().Script()) })
	}
}

// checkPlan checks what every plan must be: encoded and decoded the same, made
// of commands, with no device used before it is made.
func checkPlan(t *testing.T, topo *Topology) {
	t.Helper()
	plan := topo.Plan()
	var back Plan
	for _, s := range plan {
		b := must[[]byte](t)(MarshalStep(s))
		back = append(back, must[Step](t)(UnmarshalStep(b)))
	}
	if diff := cmp.Diff(plan, back, same...); diff != "" {
		t.Fatalf("after JSON (-want +got):\n%s", diff)
	}
	made := map[string]bool{"/": true}
	use := func(netns, device string) {
		if !made[netns+"/"] || !made[netns+"/"+device] && device != "lo" {
			t.Fatalf("%s/%s is used before it is made:\n%s", netns, device, plan.Script())
		}
	}
	add := func(netns, device string) {
		if made[netns+"/"+device] || len(device) > maxDevice {
			t.Fatalf("%s/%s is made twice or too long:\n%s", netns, device, plan.Script())
		}
		made[netns+"/"+device] = true
	}
	for _, s := range plan {
		if len(s.Commands()) == 0 {
			t.Fatalf("%#v has no command", s)
		}
		switch s := s.(type) {
		case AddNetns:
			add(s.Netns, "")
		case AddBridge:
			add(s.Netns, s.Name)
		case AddVeth:
			for _, e := range []VethEnd{s.A, s.B} {
				add(e.Netns, e.Name)
				if e.Master != "" {
					use(e.Netns, e.Master)
				}
			}
			if s.A.Index == s.B.Index && s.A.Index != 0 {
				t.Fatalf("both ends have index %d", s.A.Index)
			}
		case AddAddr:
			use(s.Netns, s.Device)
		case SetUp:
			use(s.Netns, s.Device)
		}
	}
}

func TestPlanIsSound(t *testing.T) {
	for name, topo := range variants(t) {
		t.Run(name, func(t *testing.T) { checkPlan(t, topo) })
	}
}

func TestUnmarshalStepWrong(t *testing.T) {
	for _, src := range []string{``, `[]`, `{}`, `{"SetUp":{},"AddRoute":{}}`, `{"Format":{}}`, `{"SetUp":[]}`, `{"AddAddr":{"addr":"x"}}`} {
		if s, err := UnmarshalStep([]byte(src)); err == nil {
			t.Errorf("UnmarshalStep(%s) = %#v", src, s)
		}
	}
}

func TestSysctl(t *testing.T) {
	s := SetSysctl{Netns: "n", Key: "net.ipv6.conf.eth0/7.accept_ra", Value: "it's 4096"}
	if got, want := s.Path(), "/proc/sys/net/ipv6/conf/eth0.7/accept_ra"; got != want {
		t.Errorf("Path() = %q, want %q", got, want)
	}
	want := []string{`ip netns exec n sysctl -qw 'net.ipv6.conf.eth0/7.accept_ra=it'\''s 4096'`}
	if diff := cmp.Diff(want, s.Commands()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
