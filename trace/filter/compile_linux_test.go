package filter

import (
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/internal/testenv"
)

// load loads the filter program for tc with expr in it.
func load(t testing.TB, expr string) *ebpf.Program {
	t.Helper()
	return loadAs(t, expr, func(*ebpf.CollectionSpec) error { return nil })
}

// loadBare is load for packets without an Ethernet header. It makes the program
// one for tunnels without one, which the kernel runs on what is behind the header
// of the test's frame.
func loadBare(t testing.TB, expr string) *ebpf.Program {
	t.Helper()
	return loadAs(t, expr, func(spec *ebpf.CollectionSpec) error {
		p := spec.Programs[bpf.ProgFilterTC]
		p.Type, p.AttachType = ebpf.LWTIn, ebpf.AttachNone
		return spec.Variables["ethernet"].Set(false)
	})
}

// loadAs loads the filter program with a change.
func loadAs(t testing.TB, expr string, change func(*ebpf.CollectionSpec) error) *ebpf.Program {
	t.Helper()
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	body, err := mustParse(t, expr).Compile()
	if err != nil {
		t.Fatal(err)
	}
	spec, err := bpf.FilterSpec()
	if err != nil {
		t.Fatal(err)
	}
	if err := bpf.SetMatch(spec, body); err != nil {
		t.Fatal(err)
	}
	delete(spec.Programs, bpf.ProgFilterXDP)
	if err := change(spec); err != nil {
		t.Fatal(err)
	}
	programs, err := ebpf.NewCollection(spec)
	var refused *ebpf.VerifierError
	if errors.As(err, &refused) {
		t.Fatalf("%q: %+v", expr, refused)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(programs.Close)
	return programs.Programs[bpf.ProgFilterTC]
}

// dropped reports whether the filter program drops the frame.
func dropped(t *testing.T, p *ebpf.Program, frame []byte) bool {
	t.Helper()
	verdict, err := p.Run(&ebpf.RunOptions{Data: frame})
	if err != nil {
		t.Fatal(err)
	}
	const unspec, shot = 1<<32 - 1, 2
	if verdict != unspec && verdict != shot {
		t.Fatalf("verdict %d", verdict)
	}
	return verdict == shot
}

// TestCompileAsLibpcap runs the real program, with its own reading of the headers,
// on frames, and compares with what libpcap makes of the same expression.
func TestCompileAsLibpcap(t *testing.T) {
	testenv.Root(t)
	needTcpdump(t)
	all := someFrames(5, 250, false)
	for _, expr := range someExprs(5, 100) {
		p, o := load(t, expr), pcapOracle(t, expr)
		for _, f := range all {
			if got, want := dropped(t, p, f), o.match(t, f); got != want {
				t.Errorf("%q: the program says %v, libpcap %v\n%x\n%s", expr, got, want, f, listing(t, expr))
				break
			}
		}
		p.Close()
	}
}

// TestCompileAsLibpcapBare does the same where packets have no Ethernet header.
func TestCompileAsLibpcapBare(t *testing.T) {
	testenv.Root(t)
	needTcpdump(t)
	var all [][]byte
	for _, f := range someFrames(11, 500, false) {
		if shortest(f) > 15 {
			all = append(all, f)
		}
	}
	var tried, held int
	for _, expr := range someExprs(11, 200) {
		if onlyEthernet.MatchString(expr) || tried == 100 {
			continue
		}
		tried++
		p, o := loadBare(t, expr), linkOracle(t, wording{"RAW", expr})
		for _, f := range all {
			got, want := dropped(t, p, f), o.match(t, f[14:])
			if got != want {
				t.Errorf("%q: the program says %v, libpcap %v\n%x\n%s", expr, got, want, f[14:], listing(t, expr))
				break
			}
			if want {
				held++
			}
		}
		p.Close()
	}
	if judged := tried * len(all); tried < 50 || held*10 < judged || held*10 > 9*judged {
		t.Errorf("%d expressions held of %d of %d packets: the generators say little", tried, held, judged)
	}
}

// onlyEthernet finds what libpcap refuses where there is no Ethernet header, or
// takes for another protocol.
var onlyEthernet = regexp.MustCompile(`ether|vlan|broadcast|(^|[^6p] |\()multicast`)

// TestCompileAsMatch compares the real program with Match, where libpcap cannot
// tell: on cut frames, on what a Packet does not tell, and with our own words.
func TestCompileAsMatch(t *testing.T) {
	testenv.Root(t)
	var all [][]byte
	for i, f := range someFrames(6, 400, true) {
		all = append(all, f[:max(shortest(f), len(f)-i%120)])
	}
	list := append(someExprs(6, 60), "tcp-syn", "not tcp-syn", "10.1.2.3 and not tcp-ack", "not icmp[icmptype] == 8 and not udp port 53")
	for _, expr := range list {
		p, e := load(t, expr), mustParse(t, expr)
		for _, f := range all {
			if got, want := dropped(t, p, f), e.Match(readFrame(f)); got != want {
				t.Errorf("%q: the program says %v, Match %v\n%x\n%s", expr, got, want, f, listing(t, expr))
				break
			}
		}
		p.Close()
	}
}

// TestCompileLargest loads the largest programs that an expression can become.
func TestCompileLargest(t *testing.T) {
	testenv.Root(t)
	for _, tt := range []struct{ head, more string }{
		{"host 1::", "||1::"}, {"port 1", "||80"}, {"port 1", "&&!80"}, {"tcp", "||tcp"}, {"net 1/9", "||2/9"},
	} {
		expr := tt.head + strings.Repeat(tt.more, (maxLen-len(tt.head))/len(tt.more))
		p := load(t, expr)
		dropped(t, p, benchFrame())
		body, _ := mustParse(t, expr).Compile()
		t.Logf("%s%s…: %d instructions", tt.head, tt.more, len(body))
		p.Close()
	}
}

// shortest returns to what length the kernel lets f be cut: to the network header
// where that follows at once, so behind a tag there can be less of it.
func shortest(f []byte) int {
	switch binary.BigEndian.Uint16(f[12:]) {
	case typeIPv4:
		return 14 + 20
	case typeIPv6:
		return 14 + 40
	}
	return 15
}

func listing(t *testing.T, expr string) string {
	t.Helper()
	body, err := mustParse(t, expr).Compile()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(body)
}

// BenchmarkProgram runs the filter program with and without an expression, and
// the difference is the expression's cost.
func BenchmarkProgram(b *testing.B) {
	testenv.Root(b)
	for _, expr := range []string{"", "greater 2000", benchExpr, "udp port 53", "host 10.9.9.9", "port 22 or 443 or 8080"} {
		b.Run("expr="+expr, func(b *testing.B) {
			p := load(b, expr)
			b.ResetTimer()
			b.ReportAllocs()
			_, took, err := p.Benchmark(benchFrame(), b.N, nil)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(took.Nanoseconds()), "ns/run")
		})
	}
}
