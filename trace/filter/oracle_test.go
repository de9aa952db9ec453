package filter

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	cbpf "golang.org/x/net/bpf"
)

// required says that nothing may be skipped, as in CI.
func required() bool { return os.Getenv("NSBPF_TEST_ROOT") == "1" }

// missing skips the test for want of something, unless nothing may be skipped.
func missing(t *testing.T, what string) {
	t.Helper()
	if required() {
		t.Fatalf("NSBPF_TEST_ROOT=1 and no %s", what)
	}
	t.Skipf("no %s", what)
}

// oracle is an expression as libpcap compiled it.
type oracle struct{ vm *cbpf.VM } // nil: matches nothing

var oracles sync.Map // of oracle by wording: one tcpdump runs for each

// wording is an expression and the link layer that it is compiled for.
type wording struct{ link, expr string }

// pcapOracle compiles expr by tcpdump for Ethernet frames. It opens no device.
func pcapOracle(t *testing.T, expr string) oracle {
	t.Helper()
	return linkOracle(t, wording{"EN10MB", expr})
}

// linkOracle compiles by tcpdump.
func linkOracle(t *testing.T, w wording) oracle {
	t.Helper()
	if o, ok := oracles.Load(w); ok {
		return o.(oracle)
	}
	expr := w.expr
	args := []string{"-y", w.link, "-ddd"}
	if expr != "" {
		args = append(args, "--", expr)
	}
	out, err := exec.Command("tcpdump", args...).Output()
	var o oracle
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && strings.Contains(string(exit.Stderr), "rejects all packets"):
	case errors.As(err, &exit):
		t.Fatalf("tcpdump refuses %q: %s", expr, exit.Stderr)
	case err != nil:
		t.Fatal(err)
	default:
		o.vm = newVM(t, string(out))
	}
	oracles.Store(w, o)
	return o
}

// newVM loads a program in the form of tcpdump -ddd.
func newVM(t *testing.T, text string) *cbpf.VM {
	t.Helper()
	var program []cbpf.Instruction
	for _, line := range strings.Split(strings.TrimSpace(text), "\n")[1:] {
		var n [4]uint64
		for i, f := range strings.Fields(line) {
			v, err := strconv.ParseUint(f, 10, 32)
			if err != nil {
				t.Fatal(err)
			}
			n[i] = v
		}
		raw := cbpf.RawInstruction{Op: uint16(n[0]), Jt: uint8(n[1]), Jf: uint8(n[2]), K: uint32(n[3])}
		program = append(program, raw.Disassemble())
	}
	vm, err := cbpf.NewVM(program)
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

func (o oracle) match(t *testing.T, frame []byte) bool {
	t.Helper()
	if o.vm == nil {
		return false
	}
	n, err := o.vm.Run(frame)
	if err != nil {
		t.Fatal(err)
	}
	return n > 0
}
