package filter

import (
	"fmt"
	"math"
	"slices"

	"github.com/cilium/ebpf/asm"

	"github.com/nsbpf/nsbpf/bpf"
)

// Registers of a compiled expression. R1 has the address of the packet; R0 is
// scratch; the fields below are asked for most and stay where they are.
const (
	regPlainType  = asm.R2
	regTaggedType = asm.R3
	regFlags      = asm.R4
	regNextHdr    = asm.R5
)

// Compile returns e as the body of a BPF function for bpf.SetMatch: it takes the
// address of a [bpf.Packet] in R1, uses R0 to R5, and returns 1 in R0 if e
// matches and 0 if not. It jumps forward only, without symbols, calls nothing and
// needs Linux 5.1. Addresses are in the byte order of the machine that compiles.
//
// The error is an [*Error] at an own word, which [Expr.Kernel] leaves out, or says
// that the program would be too long for BPF's jumps.
func (e *Expr) Compile() (asm.Instructions, error) {
	if e.path != nil {
		t := firstOwn(e.path).at()
		return nil, &Error{
			Expr: e.source, Pos: t.pos,
			Msg:  t.text + " is known of a packet's whole path only",
			Hint: "a trace can select by it, a program that sees the packet at one hop cannot",
		}
	}
	var a assembler
	var yes, no label
	if e.packet != nil {
		a.enter(e.cond, e.need, &no)
		a.emit(e.cond, &yes, &no, &yes)
	}
	a.place(&yes)
	a.ins = append(a.ins, asm.Mov.Imm(asm.R0, 1), asm.Return())
	if e.packet != nil {
		a.place(&no)
		a.ins = append(a.ins, asm.Mov.Imm(asm.R0, 0), asm.Return())
	}
	if len(a.ins) > math.MaxInt16 {
		return nil, fmt.Errorf("compiling filter: %d instructions, the limit is %d (split the expression)", len(a.ins), math.MaxInt16)
	}
	return a.ins, nil
}

// assembler appends instructions and resolves jumps by itself, so that no symbol
// of a body can meet one of the program it is put in.
type assembler struct {
	ins asm.Instructions
	r0  field // the field that R0 has, or none
}

// label is a place that is jumped to before it is known.
type label struct {
	jumps []int
	r0    field // what R0 has on every jump here
}

// jump goes to l if op is true of reg and value.
func (a *assembler) jump(op asm.JumpOp, reg asm.Register, value uint32, l *label) {
	if len(l.jumps) == 0 {
		l.r0 = a.r0
	} else if l.r0 != a.r0 {
		l.r0 = none
	}
	l.jumps = append(l.jumps, len(a.ins))
	code := asm.OpCode(asm.Jump32Class).SetJumpOp(op).SetSource(asm.ImmSource)
	if op == asm.Ja {
		code = asm.OpCode(asm.JumpClass).SetJumpOp(op)
	}
	a.ins = append(a.ins, asm.Instruction{OpCode: code, Dst: reg, Constant: int64(int32(value))})
}

// jumpUnless goes to l if reg has no bit of mask, which BPF has no jump for.
func (a *assembler) jumpUnless(reg asm.Register, mask uint32, l *label) {
	var set label
	a.jump(asm.JSet, reg, mask, &set)
	a.jump(asm.Ja, 0, 0, l)
	a.place(&set)
}

// place puts l here, which is also reached from the instruction above.
func (a *assembler) place(l *label) {
	for _, at := range l.jumps {
		a.ins[at].Offset = int16(len(a.ins) - at - 1)
	}
	if len(l.jumps) > 0 && l.r0 != a.r0 {
		a.r0 = none
	}
}

// read loads f from the packet into reg.
func (a *assembler) read(reg asm.Register, f field) {
	a.ins = append(a.ins, asm.LoadMem(reg, asm.R1, fields[f].offset, fields[f].size))
}

// enter loads the fields that have registers, as far as c asks for them, and
// goes to no if the packet is not [readable]. Ordinary packets pass two jumps.
func (a *assembler) enter(c cond, need depth, no *label) {
	if need == length {
		return
	}
	var used []field
	visit(c, func(f field) { used = append(used, f) })
	a.read(regPlainType, plainType)
	a.read(regFlags, flags)
	if slices.Contains(used, taggedType) {
		a.ins = append(a.ins, asm.Mov.Imm(regTaggedType, 0))
	}

	var whole, usual label
	a.jumpUnless(regFlags, uint32(bpf.PacketShort|bpf.PacketVLAN), &usual)
	a.jumpUnless(regFlags, uint32(bpf.PacketShort), &whole)
	a.checkRead(need, &whole, no)
	a.place(&whole)
	a.jumpUnless(regFlags, uint32(bpf.PacketVLAN), &usual)
	if slices.Contains(used, taggedType) {
		var single label
		a.ins = append(a.ins, asm.Mov.Reg(regTaggedType, regPlainType))
		a.jumpUnless(regFlags, uint32(bpf.PacketQinQ), &single)
		a.ins = append(a.ins, asm.Mov.Imm(regTaggedType, 0))
		a.place(&single)
	}
	a.ins = append(a.ins, asm.Mov.Imm(regPlainType, 0))
	a.place(&usual)
	if slices.Contains(used, nextHdr) {
		a.read(regNextHdr, nextHdr)
	}
}

// checkRead is [readable] for a short packet.
func (a *assembler) checkRead(need depth, whole, no *label) {
	if need == link {
		a.jump(asm.JEq, regPlainType, 0, no)
		return
	}
	a.read(asm.R0, dst0)
	for _, f := range []field{dst1, dst2, dst3} {
		a.read(asm.R5, f)
		a.ins = append(a.ins, asm.Or.Reg(asm.R0, asm.R5))
	}
	a.jump(asm.JEq, asm.R0, 0, no)
	a.read(asm.R0, nextHdr)
	a.jump(asm.JNE, asm.R0, protoFragment, whole)
	a.ins = append(a.ins, asm.LoadMem(asm.R0, asm.R1, offProto, asm.Byte))
	a.jump(asm.JEq, asm.R0, 0, no)
}

// emit goes to yes if c holds and to no if not. One of the two is next, the place
// that follows, and is reached by falling through.
func (a *assembler) emit(c cond, yes, no, next *label) {
	switch c := c.(type) {
	case compare:
		a.compare(c, yes, no, next)
	case all:
		for i, part := range c {
			if i == len(c)-1 {
				a.emit(part, yes, no, next)
				return
			}
			var more label
			a.emit(part, &more, no, &more)
			a.place(&more)
		}
	case some:
		for i, part := range c {
			if i == len(c)-1 {
				a.emit(part, yes, no, next)
				return
			}
			var more label
			a.emit(part, yes, &more, &more)
			a.place(&more)
		}
	}
}

// jumps has BPF's name of each op.
var jumps = [...]asm.JumpOp{eq: asm.JEq, ne: asm.JNE, lt: asm.JLT, ge: asm.JGE, gt: asm.JGT, le: asm.JLE}

func (a *assembler) compare(c compare, yes, no, next *label) {
	target := yes
	if next == yes {
		target = no
		c.op ^= 1
	}
	reg := a.load(c.field)
	switch masked := c.mask != math.MaxUint32; {
	case masked && c.value == 0 && c.op == ne:
		a.jump(asm.JSet, reg, c.mask, target)
	case masked && c.value == 0 && c.op == eq:
		a.jumpUnless(reg, c.mask, target)
	case masked:
		a.ins = append(a.ins, asm.And.Imm32(reg, int32(c.mask)))
		a.r0 = none
		fallthrough
	default:
		a.jump(jumps[c.op], reg, c.value, target)
	}
}

// load returns the register that has f, having loaded it if need be. Fields with
// a register of their own are compared whole or bit by bit, so stay unmasked.
func (a *assembler) load(f field) asm.Register {
	switch f {
	case plainType:
		return regPlainType
	case taggedType:
		return regTaggedType
	case flags:
		return regFlags
	case nextHdr:
		return regNextHdr
	}
	if a.r0 != f {
		a.read(asm.R0, f)
		a.r0 = f
	}
	return asm.R0
}
