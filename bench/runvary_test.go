package bench

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/bench/load"
)

func TestProduct(t *testing.T) {
	var axes []Axis
	for _, s := range []string{"hook=none,count", "size=64,imix"} {
		a, err := ParseAxis(s)
		if err != nil {
			t.Fatal(err)
		}
		axes = append(axes, a)
	}
	all, err := Product(axes)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range all {
		names = append(names, NameOf(axes, m))
	}
	want := []string{"hook=none size=64", "hook=none size=imix", "hook=count size=64", "hook=count size=imix"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	if _, err := Product(append(axes, axes[0])); err == nil || !strings.Contains(err.Error(), "hook is varied twice") {
		t.Error(err)
	}
	long, err := ParseAxis("flows=1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Product(append(axes, long)); err == nil || !strings.Contains(err.Error(), "more than 64 variants") {
		t.Error(err)
	}
	if all, err := Product(nil); err != nil || len(all) != 1 {
		t.Errorf("of nothing: %v, %v", all, err)
	}
}

func TestParseAxisWrong(t *testing.T) {
	for s, want := range map[string]string{
		"size":       "varies nothing",
		"colour=red": `"colour" cannot be varied`,
		"size=64,":   "empty value",
		"size=":      "empty value",
		"size=64,64": "has 64 twice",
	} {
		if _, err := ParseAxis(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", s, err)
		}
	}
}

func TestSet(t *testing.T) {
	var s load.Spec
	for _, kv := range [][2]string{
		{"mode", "udp"}, {"size", "imix"}, {"flows", "16"}, {"threads", "2"}, {"rate", "1.5M"},
		{"gso", "on"}, {"over-udp", "off"}, {"reset", "off"}, {"cpus", "0+2-3"},
	} {
		if err := Set(&s, kv[0], kv[1]); err != nil {
			t.Errorf("%s: %v", kv, err)
		}
	}
	want := load.Spec{Mode: load.UDP, IMIX: true, Flows: 16, Threads: 2, Rate: 1.5e6, GSO: true, CPUs: []int{0, 2, 3}}
	if diff := cmp.Diff(want, s, cmp.AllowUnexported(load.Place{}), cmp.Comparer(func(a, b load.Place) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, kv := range [][2]string{
		{"mode", "sctp"}, {"size", "big"}, {"size", "0"}, {"flows", "-1"}, {"threads", ""}, {"rate", "fast"},
		{"gso", "yes"}, {"cpus", "3-1"}, {"cpus", ""}, {"cpus", "0-99999"}, {"mtu", "9000"},
	} {
		if err := Set(&s, kv[0], kv[1]); err == nil {
			t.Errorf("%s is taken", kv)
		}
	}
}

func TestParseRate(t *testing.T) {
	for _, tt := range []struct {
		s          string
		rate, bits float64
	}{
		{"5000", 5000, 0}, {"100k", 1e5, 0}, {"1.5M", 1.5e6, 0}, {"2Mpps", 2e6, 0}, {"7pps", 7, 0},
		{"100mbit", 0, 1e8}, {"1Gbit", 0, 1e9}, {"800bit", 0, 800}, {"max", 0, 0}, {"0", 0, 0},
	} {
		rate, bits, err := ParseRate(tt.s)
		if err != nil || rate != tt.rate || bits != tt.bits {
			t.Errorf("%s: %g pps, %g bit/s, %v", tt.s, rate, bits, err)
		}
	}
	for _, s := range []string{"", "k", "-1", "1e9", "0x10", "inf", "nan", "10mb", "1kk", "99999999gbit"} {
		if rate, bits, err := ParseRate(s); err == nil {
			t.Errorf("%q is %g pps, %g bit/s", s, rate, bits)
		}
	}
}

func FuzzParseRate(f *testing.F) {
	f.Add("1.5M")
	f.Fuzz(func(t *testing.T, s string) {
		if rate, bits, err := ParseRate(s); err == nil && (rate < 0 || bits < 0 || rate > 0 && bits > 0) {
			t.Errorf("%q: %g pps, %g bit/s", s, rate, bits)
		}
		if cpus, err := ParseCPUs(s); err == nil && len(cpus) == 0 {
			t.Errorf("%q is no CPU, and no error", s)
		}
	})
}
