package collector

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReason(t *testing.T) {
	k := Kernel{reasons: map[uint32]string{0: "SKB_NOT_DROPPED_YET", 3: "NO_SOCKET", 2 << 16: "MAC80211_UNUSABLE", 3 << 16: "OPENVSWITCH"}}
	for n, want := range map[uint32]string{
		3: "NO_SOCKET", 4: "REASON_4", 3<<16 | 12: "OPENVSWITCH_12", 2 << 16: "MAC80211_UNUSABLE_0", 9<<16 | 1: "REASON_589825",
	} {
		if got := k.Reason(n); got != want {
			t.Errorf("reason %#x is %q, want %q", n, got, want)
		}
	}
}

const kallsyms = `ffffffff81000000 T _text
ffffffff81000000 T second_name
ffffffff81000100 t ip_rcv_finish_core.isra.0
ffffffff81000180 d jiffies
ffffffffc0000000 t br_forward	[bridge]
ffffffff81000080 W weak
0000000000000000 T hidden
nonsense
 T
zz T no_number
`

func TestSymbol(t *testing.T) {
	all := parseSymbols(strings.NewReader(kallsyms))
	for addr, want := range map[uint64]string{
		0: "", 0xffffffff80ffffff: "", 0xffffffff81000000: "_text", 0xffffffff8100007f: "_text", 0xffffffff81000080: "weak",
		0xffffffff81000190: "ip_rcv_finish_core", 0xffffffffc0000010: "br_forward", 0xffffffffc0100000: "", 0xffffffff82000000: "",
	} {
		if got := symbolAt(all, addr); got != want {
			t.Errorf("%#x is in %q, want %q", addr, got, want)
		}
	}
	if hidden := parseSymbols(strings.NewReader("0000000000000000 T ip_forward\n")); len(hidden) != 0 || symbolAt(hidden, 1<<63) != "" {
		t.Errorf("hidden addresses are symbols: %v", hidden)
	}
}

// The kernel that the test runs on: what it says itself is what is read.
func TestOpenKernel(t *testing.T) {
	k, err := OpenKernel()
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for n := range uint32(256) {
		if r := k.Reason(n); r == "NOT_SPECIFIED" || r == "NO_SOCKET" {
			found = append(found, r)
		}
	}
	if d := cmp.Diff([]string{"NOT_SPECIFIED", "NO_SOCKET"}, found); d != "" && k.reasons != nil {
		t.Error(d)
	}
	raw, err := os.ReadFile("/proc/kallsyms")
	if err != nil {
		t.Skip(err)
	}
	for line := range strings.Lines(string(raw)) {
		words := strings.Fields(line)
		if words[len(words)-1] != "ip_forward" || strings.Trim(words[0], "0") == "" {
			continue
		}
		for _, s := range k.symbols() {
			if s.name == "ip_forward" {
				if got := k.Symbol(s.addr + 1); got != "ip_forward" {
					t.Errorf("one byte behind ip_forward is %q", got)
				}
				return
			}
		}
		t.Errorf("%q is not known", strings.TrimSpace(line))
	}
}

func FuzzSymbols(f *testing.F) {
	f.Add(kallsyms, uint64(0xffffffff81000190))
	f.Fuzz(func(t *testing.T, lines string, addr uint64) {
		all := parseSymbols(strings.NewReader(lines))
		for i := range all {
			if all[i].addr == 0 || i > 0 && all[i-1].addr >= all[i].addr {
				t.Errorf("symbols %v", all)
			}
		}
		symbolAt(all, addr)
	})
}

func BenchmarkSymbols(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		readSymbols()
	}
}
