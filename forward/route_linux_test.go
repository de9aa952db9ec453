package forward

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/nsbpf/nsbpf/internal/testenv"
)

const star = `
name: star
nodes:
  a: {forward: true}
links:
  - ["a:d1 10.1.0.1/24 fd01::1/64", "b 10.1.0.2/24 fd01::2/64"]
  - ["a:d2 10.2.0.1/24 fd02::1/64", "c 10.2.0.2/24 fd02::2/64"]
  - ["a:d3 10.3.0.1/16 fd03::1/64", "d 10.3.0.2/16 fd03::2/64"]
`

// TestLookupAsKernel asks `ip route get` the same questions, with generated
// routes in several tables and generated rules.
func TestLookupAsKernel(t *testing.T) {
	lab := up(t, star)
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 4))
			script := generate(rnd)
			testenv.Run(t, "sh", "-c", "printf '%s' \"$1\" | ip -n a -force -batch - 2>/dev/null; :", "sh", script)
			node, err := Read(lab, "a")
			if err != nil {
				t.Fatal(err)
			}
			wrong := 0
			for range 150 {
				f := question(rnd)
				want := ask(t, f)
				r := node.Lookup(f)
				got := answer{kind: r.Kind}
				if r.Kind == "unicast" || r.Kind == "local" || r.Kind == "broadcast" {
					got.device, got.via = r.Device, r.Via
					if f.IIF == "" && !f.Src.IsValid() {
						got.src = node.SourceOf(r, f.Dst)
					}
				}
				if r.Kind == "local" {
					got.device = "lo"
				}
				if r.Kind == "unreachable" && r.Route == nil {
					got.kind = "none" // that of a rule is the same errno as no route
				}
				if got != want && r.Unknown == "" {
					if wrong++; wrong < 4 {
						t.Errorf("%+v: got %+v by %+v, ip route get says %+v", f, got, r.Route, want)
					}
				}
			}
			if wrong > 0 {
				t.Logf("%d wrong with:\n%s", wrong, script)
			}
		})
	}
}

// generate returns commands that make routes and rules; some of them fail.
func generate(rnd *rand.Rand) string {
	var b strings.Builder
	for _, table := range []int{254, 100, 101, 102} {
		fmt.Fprintf(&b, "route flush table %d proto 99\n-6 route flush table %d proto 99\n", table, table)
	}
	for range 20 { // left from the seed before
		fmt.Fprintf(&b, "rule del proto 99\n-6 rule del proto 99\n")
	}
	for range 60 {
		v6 := rnd.IntN(3) == 0
		bits := []int{0, 8, 12, 16, 20, 24, 28, 32}[rnd.IntN(8)]
		dst := netip.PrefixFrom(netip.AddrFrom4([4]byte{20, byte(rnd.IntN(3)), byte(rnd.IntN(4)), byte(rnd.IntN(256))}), bits).Masked().String()
		gw := fmt.Sprintf("10.%d.0.%d", 1+rnd.IntN(3), 2+rnd.IntN(3))
		six := ""
		if v6 {
			bits = []int{0, 32, 48, 64, 96, 128}[rnd.IntN(6)]
			dst = netip.PrefixFrom(netip.MustParseAddr(fmt.Sprintf("2001:db8:%x:%x::%x", rnd.IntN(2), rnd.IntN(3), rnd.IntN(9))), bits).Masked().String()
			gw = fmt.Sprintf("fd0%d::%x", 1+rnd.IntN(3), 2+rnd.IntN(3))
			six = "-6 "
		}
		table := []int{254, 254, 100, 101, 102}[rnd.IntN(5)]
		metric := []int{10, 20, 1024}[rnd.IntN(3)]
		how := "via " + gw
		switch rnd.IntN(10) {
		case 0:
			how = fmt.Sprintf("dev d%d", 1+rnd.IntN(3))
		case 1:
			fmt.Fprintf(&b, "%sroute add %s %s table %d metric %d proto 99\n", six,
				[]string{"blackhole", "unreachable", "prohibit", "throw"}[rnd.IntN(4)], dst, table, metric)
			continue
		case 2:
			if !v6 {
				how += fmt.Sprintf(" src 10.%d.0.1", 1+rnd.IntN(3))
			}
		}
		fmt.Fprintf(&b, "%sroute add %s %s table %d metric %d proto 99\n", six, dst, how, table, metric)
	}
	for i := range 8 {
		six, net := "", fmt.Sprintf("20.%d.0.0/16", rnd.IntN(3))
		if rnd.IntN(3) == 0 {
			six, net = "-6 ", fmt.Sprintf("2001:db8:%x::/48", rnd.IntN(2))
		}
		selector := []string{"to " + net, "not to " + net, "from " + net, fmt.Sprintf("iif d%d", 1+rnd.IntN(3)), "fwmark 1/3", "fwmark 2", "iif lo", "tos 0x10"}[rnd.IntN(8)]
		action := []string{"table 100", "table 101", "table 102", "table main suppress_prefixlength 0", "unreachable", "prohibit", fmt.Sprint("goto ", 1000+100*(i+2))}[rnd.IntN(7)]
		fmt.Fprintf(&b, "%srule add %s pref %d %s proto 99\n", six, selector, 1000+100*i, action)
	}
	return b.String()
}

func question(rnd *rand.Rand) Flow {
	f := Flow{Mark: uint32(rnd.IntN(3))}
	v4 := rnd.IntN(3) > 0
	pick := func() netip.Addr {
		if v4 {
			return netip.AddrFrom4([4]byte{20, byte(rnd.IntN(3)), byte(rnd.IntN(4)), byte(rnd.IntN(256))})
		}
		return netip.MustParseAddr(fmt.Sprintf("2001:db8:%x:%x::%x", rnd.IntN(2), rnd.IntN(3), rnd.IntN(9)))
	}
	f.Dst = pick()
	own := 1 + rnd.IntN(3)
	if rnd.IntN(8) == 0 { // a neighbour, or the node itself
		f.Dst = netip.AddrFrom4([4]byte{10, byte(own), 0, byte(1 + rnd.IntN(2))})
		if !v4 {
			f.Dst = netip.MustParseAddr(fmt.Sprintf("fd0%d::%d", own, 1+rnd.IntN(2)))
		}
	}
	switch rnd.IntN(3) {
	case 0:
		f.IIF = fmt.Sprintf("d%d", own)
		f.Src = netip.AddrFrom4([4]byte{10, byte(own), 0, 77})
		if !v4 {
			f.Src = netip.MustParseAddr(fmt.Sprintf("fd0%d::77", own))
		}
	case 1:
		f.Src = netip.AddrFrom4([4]byte{10, byte(own), 0, 1})
		if !v4 {
			f.Src = netip.MustParseAddr(fmt.Sprintf("fd0%d::1", own))
		}
	}
	if v4 && rnd.IntN(4) == 0 {
		f.TOS = 0x10
	}
	return f
}

type answer struct {
	kind, device string
	via, src     netip.Addr
}

// ask returns what `ip route get` says.
func ask(t *testing.T, f Flow) answer {
	t.Helper()
	args := []string{"-n", "a", "-j", "route", "get", f.Dst.String()}
	if f.Src.IsValid() {
		args = append(args, "from", f.Src.String())
	}
	if f.IIF != "" {
		args = append(args, "iif", f.IIF)
	}
	if f.Mark != 0 {
		args = append(args, "mark", fmt.Sprint(f.Mark))
	}
	if f.TOS != 0 {
		args = append(args, "tos", fmt.Sprintf("%#x", f.TOS))
	}
	out, err := exec.Command(testenv.Tool(t, "ip"), args...).CombinedOutput()
	text := string(out)
	switch {
	case strings.Contains(text, "Network is unreachable"):
		return answer{kind: "none"}
	case strings.Contains(text, "No route to host"):
		return answer{kind: "unreachable"}
	case strings.Contains(text, "Permission denied"):
		return answer{kind: "prohibit"}
	case strings.Contains(text, "Invalid argument"):
		return answer{kind: "blackhole"}
	case err != nil:
		t.Fatalf("ip %v: %v %s", args, err, text)
	}
	var routes []struct {
		Type, Dev, Gateway, Prefsrc string
	}
	if err := json.Unmarshal(out, &routes); err != nil || len(routes) != 1 {
		t.Fatalf("ip %v: %v %s", args, err, text)
	}
	r := routes[0]
	a := answer{kind: "unicast", device: r.Dev}
	if r.Type != "" {
		a.kind = r.Type
	}
	if a.kind != "unicast" && a.kind != "local" && a.kind != "broadcast" {
		return answer{kind: a.kind}
	}
	a.via, _ = netip.ParseAddr(r.Gateway)
	if f.IIF == "" && !f.Src.IsValid() {
		a.src, _ = netip.ParseAddr(r.Prefsrc)
	}
	return a
}
