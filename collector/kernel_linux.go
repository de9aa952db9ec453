package collector

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/cilium/ebpf/btf"
)

// Kernel gives the running kernel's numbers their names. Its methods may be called
// at the same time.
type Kernel struct {
	reasons map[uint32]string // by number
	symbols func() []symbol   // reads them once
}

// symbol is where a function of the kernel's begins.
type symbol struct {
	addr uint64
	name string
}

// OpenKernel returns the names of the running kernel. A kernel that has no names
// for the reasons of drops, or does not show where its functions are, is no error.
// The functions are read when the first is asked for, which takes some 100 ms.
func OpenKernel() (*Kernel, error) {
	k := &Kernel{symbols: sync.OnceValue(readSymbols)}
	spec, err := btf.LoadKernelSpec()
	if err == nil {
		k.reasons, err = readReasons(spec)
	}
	if err != nil && !errors.Is(err, btf.ErrNotFound) && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, btf.ErrNotSupported) {
		return nil, fmt.Errorf("reading the kernel's names for drops: %w", err)
	}
	return k, nil
}

const (
	reasonPrefix    = "SKB_DROP_REASON_"
	subsystemPrefix = "SKB_DROP_REASON_SUBSYS_"
	subsystemShift  = 16
)

// readReasons returns enum skb_drop_reason, and the names that begin the reasons
// of subsystems, by their first number (include/net/dropreason.h).
func readReasons(spec *btf.Spec) (map[uint32]string, error) {
	names := make(map[uint32]string)
	var reasons, subsystems *btf.Enum
	if err := spec.TypeByName("skb_drop_reason", &reasons); err != nil {
		return nil, err
	}
	for _, v := range reasons.Values {
		names[uint32(v.Value)] = strings.TrimPrefix(v.Name, reasonPrefix)
	}
	err := spec.TypeByName("skb_drop_reason_subsys", &subsystems) // from Linux 6.4 on
	if errors.Is(err, btf.ErrNotFound) {
		return names, nil
	}
	if err != nil {
		return nil, err
	}
	for _, v := range subsystems.Values {
		if v.Value != 0 {
			names[uint32(v.Value)<<subsystemShift] = strings.TrimPrefix(v.Name, subsystemPrefix)
		}
	}
	return names, nil
}

// Reason returns the name in enum skb_drop_reason of a [bpf.Drop]'s reason, without
// its prefix. That of a subsystem is named after it and its number there, such as
// "OPENVSWITCH_3", and one without a name "REASON_" and its number.
func (k *Kernel) Reason(n uint32) string {
	if s, ok := k.reasons[n]; ok && n>>subsystemShift == 0 {
		return s
	}
	of, nth := k.reasons[n>>subsystemShift<<subsystemShift], n&(1<<subsystemShift-1)
	if n>>subsystemShift == 0 || of == "" {
		of, nth = "REASON", n
	}
	return of + "_" + strconv.FormatUint(uint64(nth), 10)
}

// Symbol returns the name of the function of the kernel's, or of a module's, that
// an address is in, without what the compiler added to it. It is "" if it is in none, or if the kernel hides where they
// are (the sysctl kernel.kptr_restrict).
func (k *Kernel) Symbol(addr uint64) string { return symbolAt(k.symbols(), addr) }

// longest is more than any function takes.
const longest = 1 << 20

// symbolAt returns the last symbol that does not begin behind addr.
func symbolAt(all []symbol, addr uint64) string {
	i, exact := slices.BinarySearchFunc(all, addr, func(s symbol, addr uint64) int { return cmp.Compare(s.addr, addr) })
	if !exact {
		i--
	}
	if i < 0 || addr-all[i].addr >= longest {
		return ""
	}
	name, _, _ := strings.Cut(all[i].name, ".") // of ip_rcv_finish_core.isra.0
	return name
}

// readSymbols returns the kernel's functions by address, none if it hides them.
func readSymbols() []symbol {
	f, err := os.Open("/proc/kallsyms")
	if err != nil {
		return nil
	}
	defer f.Close()
	return parseSymbols(f)
}

// parseSymbols returns what is a function of kallsyms' lines, by address. Lines are
// an address, a letter and a name, and behind a tab the module. What is hidden is
// at 0; of two names of one address the first is taken.
func parseSymbols(r io.Reader) []symbol {
	var all []symbol
	for lines := bufio.NewScanner(r); lines.Scan(); {
		line := lines.Bytes()
		i := bytes.IndexByte(line, ' ')
		if i < 0 || len(line) < i+4 || line[i+2] != ' ' || !bytes.ContainsAny(line[i+1:i+2], "tTwW") {
			continue
		}
		addr, err := strconv.ParseUint(string(line[:i]), 16, 64)
		if err != nil || addr == 0 {
			continue
		}
		name, _, _ := bytes.Cut(line[i+3:], []byte{'\t'})
		all = append(all, symbol{addr, string(name)})
	}
	slices.SortStableFunc(all, func(a, b symbol) int { return cmp.Compare(a.addr, b.addr) })
	return slices.CompactFunc(all, func(a, b symbol) bool { return a.addr == b.addr })
}
