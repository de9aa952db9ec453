package forward

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// print writes a value of an operand as nft does.
func (o operand) print(b Bytes) string {
	switch o.kind {
	case asAddr:
		if a := addrOf(b); a.IsValid() {
			return a.String()
		}
	case asName:
		return strconv.Quote(string(bytes.TrimRight(b, "\x00")))
	case asProto:
		if len(b) == 1 {
			return protoWord(b[0])
		}
	case asState:
		if len(b) == 4 {
			return states(binary.NativeEndian.Uint32(b))
		}
	case asFamily:
		return map[string]string{"\x02": "ipv4", "\x0a": "ipv6"}[string(b)]
	case asEtherType:
		return map[string]string{"\x08\x00": "ip", "\x86\xdd": "ip6", "\x08\x06": "arp"}[string(b)]
	case asHost, asDevice:
		if len(b) == 4 {
			v := binary.NativeEndian.Uint32(b)
			if o.kind == asHost && strings.HasSuffix(o.name, "mark") {
				return fmt.Sprintf("0x%08x", v)
			}
			return strconv.Itoa(int(v))
		}
	}
	if len(b) > 8 {
		return fmt.Sprintf("0x%x", []byte(b))
	}
	var v uint64
	for _, c := range b {
		v = v<<8 | uint64(c)
	}
	return strconv.FormatUint(v, 10)
}

func protoWord(p uint8) string {
	for _, n := range protocols {
		if n.number == p {
			if p == ICMP6 {
				return "ipv6-icmp"
			}
			return n.name
		}
	}
	return strconv.Itoa(int(p))
}

// states returns conntrack's states in nft's order.
func states(v uint32) string {
	var words []string
	for _, s := range []struct {
		bit  uint32
		name string
	}{{stateInvalid, "invalid"}, {stateEstablished, "established"}, {stateRelated, "related"}, {stateNew, "new"}, {stateUntracked, "untracked"}} {
		if v&s.bit != 0 {
			words = append(words, s.name)
		}
	}
	slices.Sort(words)
	return strings.Join(words, ",")
}
