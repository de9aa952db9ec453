package filter

import (
	"encoding/binary"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf/asm"

	"github.com/nsbpf/nsbpf/bpf"
)

// run interprets a compiled expression on p, so that the compiler is tested
// without root. It knows what the assembler emits and nothing else.
func run(t *testing.T, body asm.Instructions, p *bpf.Packet) bool {
	t.Helper()
	memory := unsafe.Slice((*byte)(unsafe.Pointer(p)), unsafe.Sizeof(*p))
	var r [6]uint64
	for pc := 0; ; pc++ {
		in := body[pc]
		operand := uint64(in.Constant)
		if in.OpCode.Source() == asm.RegSource {
			operand = r[in.Src]
		}
		switch class := in.OpCode.Class(); {
		case class == asm.LdXClass:
			r[in.Dst] = loadFrom(memory[in.Offset:], in.OpCode.Size())
		case class.IsALU():
			switch in.OpCode.ALUOp() {
			case asm.Mov:
				r[in.Dst] = operand
			case asm.And:
				r[in.Dst] = uint64(uint32(r[in.Dst] & operand))
			case asm.Or:
				r[in.Dst] |= operand
			default:
				t.Fatalf("instruction %d: %v", pc, in)
			}
		case in.OpCode.JumpOp() == asm.Exit:
			return r[0] != 0
		case in.Offset < 0:
			t.Fatalf("instruction %d jumps back", pc)
		case taken(t, in.OpCode.JumpOp(), uint32(r[in.Dst]), uint32(operand)):
			pc += int(in.Offset)
		}
	}
}

func loadFrom(b []byte, size asm.Size) uint64 {
	switch size {
	case asm.Byte:
		return uint64(b[0])
	case asm.Half:
		return uint64(binary.NativeEndian.Uint16(b))
	default:
		return uint64(binary.NativeEndian.Uint32(b))
	}
}

func taken(t *testing.T, op asm.JumpOp, a, b uint32) bool {
	t.Helper()
	switch op {
	case asm.Ja:
		return true
	case asm.JEq:
		return a == b
	case asm.JNE:
		return a != b
	case asm.JSet:
		return a&b != 0
	case asm.JLT:
		return a < b
	case asm.JLE:
		return a <= b
	case asm.JGT:
		return a > b
	case asm.JGE:
		return a >= b
	}
	t.Fatalf("jump %v", op)
	return false
}

// TestCompile compares compiled expressions with Match.
func TestCompile(t *testing.T) {
	var packets []*bpf.Packet
	for i, f := range someFrames(8, 300, true) {
		packets = append(packets, readFrame(f[:len(f)-i%len(f)*(i%2)]))
	}
	for _, expr := range append(someExprs(8, 500), "tcp-syn or 10.1.2.3", "not tcp-syn and not port 80") {
		e := mustParse(t, expr)
		body, err := e.Compile()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range packets {
			if got, want := run(t, body, p), e.Match(p); got != want {
				t.Errorf("%q: the program says %v, Match %v of %+v\n%v", expr, got, want, p, body)
				break
			}
		}
	}
}

// TestCompileSize keeps the programs of ordinary expressions small: without what
// reads short and tagged packets, most have as many instructions as libpcap's.
func TestCompileSize(t *testing.T) {
	for _, tt := range []struct {
		expr string
		most int
	}{
		{"", 2}, {"greater 100", 6}, {"icmp", 28}, {"port 80", 36}, {"host 10.1.2.3", 31}, {"tcp port 80 and host 10.1.2.3", 41},
	} {
		body, err := mustParse(t, tt.expr).Compile()
		if err != nil {
			t.Fatal(err)
		}
		if len(body) > tt.most {
			t.Errorf("%q: %d instructions, want at most %d", tt.expr, len(body), tt.most)
		}
	}
}
