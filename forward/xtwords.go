package forward

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// match writes an iptables match in the words that nft has for it, or its name.
func (w *writer) match(e *Expr) {
	switch {
	case e.Key == "comment":
	case len(e.Data) == 0:
		w.say("[" + e.Key + "]")
	case e.Key == "addrtype":
		w.addressTypes(e)
	case e.Key == "conntrack":
		w.say("ct state", not(e.Not), xtStates(binary.BigEndian.Uint16(e.Data)))
	case e.Key == "icmp" && e.Data[0] == 255:
		w.say("meta l4proto icmp")
	case e.Key == "icmp", e.Key == "icmp6":
		word := map[string]string{"icmp": "icmp", "icmp6": "icmpv6"}[e.Key]
		w.say(word+" type", not(e.Not), strconv.Itoa(int(e.Data[0])))
		if e.Data[1] == e.Data[2] {
			w.say(word+" code", strconv.Itoa(int(e.Data[1])))
		}
	case e.Key == "mark":
		mark, mask := binary.BigEndian.Uint32(e.Data), binary.BigEndian.Uint32(e.Data[4:])
		word := "meta mark"
		if mask != 0xffffffff {
			word += fmt.Sprintf(" & 0x%08x", mask)
		}
		w.say(word, not(e.Not), fmt.Sprintf("0x%08x", mark))
	case e.Key == "multiport":
		side := []string{"sport", "dport", "port"}[min(e.Data[0], 2)]
		w.say(w.transport()+" "+side, not(e.Not), "{ "+strings.Join(portRanges(e.Data[1:]), ", ")+" }")
	default:
		w.xtPorts(e)
	}
}

func not(not bool) string {
	if not {
		return "!="
	}
	return ""
}

// transport returns the word for the header that the rule asked for, as in "tcp".
func (w *writer) transport() string {
	if hasPorts(w.proto) {
		return protoWord(w.proto)
	}
	return "th"
}

func (w *writer) addressTypes(e *Expr) {
	for i, side := range []string{"saddr", "daddr"} {
		types := binary.BigEndian.Uint16(e.Data[2*i:])
		var words []string
		for _, name := range []string{"unicast", "local", "broadcast", "anycast", "multicast", "blackhole", "unreachable", "prohibit"} {
			if types>>routeTypes[name]&1 == 1 {
				words = append(words, name)
			}
		}
		switch len(words) {
		case 0:
		case 1:
			w.say("fib "+side+" type", not(e.Data[4]>>i&1 == 1), words[0])
		default:
			w.say("fib "+side+" type", not(e.Data[4]>>i&1 == 1), "{ "+strings.Join(words, ", ")+" }")
		}
	}
}

// xtStates returns states in the order in which iptables translates them.
func xtStates(bits uint16) string {
	var words []string
	for _, s := range []struct {
		bit  uint16
		name string
	}{
		{stateInvalid, "invalid"}, {stateNew, "new"}, {stateRelated, "related"}, {stateEstablished, "established"},
		{xtStateUntracked, "untracked"}, {xtStateSNAT, "snat"}, {xtStateDNAT, "dnat"},
	} {
		if bits&s.bit != 0 {
			words = append(words, s.name)
		}
	}
	return strings.Join(words, ",")
}

func portRanges(b Bytes) []string {
	var words []string
	for ; len(b) >= 4; b = b[4:] {
		first, last := binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		word := strconv.Itoa(int(first))
		if last != first {
			word += "-" + strconv.Itoa(int(last))
		}
		words = append(words, word)
	}
	return words
}

func (w *writer) xtPorts(e *Expr) {
	inverted, mask, flags := e.Data[8], e.Data[9], e.Data[10]
	for i, side := range []string{"sport", "dport"} {
		if ports := portRanges(e.Data[4*i : 4*i+4])[0]; ports != "0-65535" {
			w.say(e.Key+" "+side, not(inverted>>i&1 == 1), ports)
		}
	}
	if mask != 0 {
		w.say(fmt.Sprintf("tcp flags & 0x%02x", mask), map[bool]string{false: "==", true: "!="}[inverted&4 != 0], fmt.Sprintf("0x%02x", flags))
	}
}

// target writes an iptables target in the words that nft has for it, or its name.
func (w *writer) target(e *Expr) {
	word := map[string]string{"DNAT": "dnat", "SNAT": "snat", "REDIRECT": "redirect", "MASQUERADE": "masquerade"}[e.Key]
	switch {
	case e.Key == "REJECT", e.Key == "LOG":
		w.say(strings.ToLower(e.Key))
	case e.Key == "CT" && len(e.Data) >= 2 && e.Data[1]&1 != 0:
		w.say("notrack")
	case e.Key == "MARK" && len(e.Data) >= 8:
		mark, mask := binary.BigEndian.Uint32(e.Data), binary.BigEndian.Uint32(e.Data[4:])
		if mask == 0xffffffff {
			w.say(fmt.Sprintf("meta mark set 0x%x", mark))
		} else {
			w.say(fmt.Sprintf("meta mark set mark and 0x%x xor 0x%x", ^mask, mark))
		}
	case word != "" && len(e.Data) >= natRangeSize:
		t := e.natRange(w.table.Family == "ip")
		if to := natTo(t); to != "" {
			word += " to " + to
		}
		w.say(word)
	default:
		w.say(e.Key)
	}
}

// natTo returns the addresses and ports that a translation chooses from.
func natTo(t translation) string {
	to := ""
	for i, a := range []netip.Addr{t.addr, t.lastAddr} {
		if !a.IsValid() || i == 1 && a == t.addr {
			continue
		}
		s := a.String()
		if a.Is6() && t.port != 0 {
			s = "[" + s + "]"
		}
		to += map[bool]string{true: "-"}[i == 1] + s
	}
	if t.port != 0 {
		to += fmt.Sprintf(":%d", t.port)
		if t.lastPort > t.port {
			to += fmt.Sprintf("-%d", t.lastPort)
		}
	}
	return to
}
