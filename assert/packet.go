package assert

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/nsbpf/nsbpf/internal/nearest"
	"github.com/nsbpf/nsbpf/internal/source"
	"github.com/nsbpf/nsbpf/ping"
)

const packetHint = "such as left -> right icmp, or left -x-> 8.8.8.8 tcp/443"

// packet reads FROM -> TO [ip|ip6] PROTO[/PORT], where -x-> is for what may not
// get through.
func (d *declaration) packet(a *Assertion, n source.Node, line string) {
	words := d.Words(n, line)
	for i, name := range []string{".from", ".arrow", ".to", ".proto"} {
		if i < len(words) {
			d.Set(a.path+name, words[i].Place)
		}
	}
	texts := make([]string, len(words))
	for i, w := range words {
		texts[i] = w.Text
	}
	a.Text = strings.Join(texts, " ")
	if len(words) < 4 {
		d.Mistake(n.Path, fmt.Sprintf("%q is not FROM -> TO PROTOCOL", line), packetHint)
		return
	}
	a.From, a.To = texts[0], texts[2]
	switch texts[1] {
	case "->":
	case "-x->":
		a.Blocked = true
	default:
		d.Mistake(a.path+".arrow", fmt.Sprintf("%q is no arrow", texts[1]), "-> for what gets through, -x-> for what must not")
	}
	if to, err := netip.ParseAddr(a.To); err == nil {
		a.Dst = to.Unmap()
		a.Six = a.Dst.Is6()
	}
	rest := texts[3:]
	if len(rest) == 2 && (rest[0] == "ip" || rest[0] == "ip6") {
		d.family(a, rest[0])
		d.Set(a.path+".proto", words[4].Place)
		rest = rest[1:]
	}
	if len(rest) > 1 {
		d.MistakeAt(words[len(words)-1].Place, a.path, fmt.Sprintf("%q is one word too many", texts[len(texts)-1]), packetHint)
		return
	}
	d.protocol(a, rest[0])
}

// family takes ip or ip6, which an address must be of.
func (d *declaration) family(a *Assertion, word string) {
	if a.Dst.IsValid() && a.Dst.Is6() != (word == "ip6") {
		d.Mistake(a.path+".to", fmt.Sprintf("%s is not of family %s", a.Dst, word), "leave "+word+" out")
	}
	a.Six = word == "ip6"
}

// protocol reads PROTO[/PORT].
func (d *declaration) protocol(a *Assertion, word string) {
	proto, port, given := strings.Cut(word, "/")
	if proto == "icmp6" {
		proto = "icmp"
		d.family(a, "ip6")
	}
	wrong := func(msg, hint string) { d.Mistake(a.path+".proto", msg, hint) }
	var err error
	if a.Proto, err = ping.ParseProto(proto); err != nil {
		hint := nearest.Hint(proto, []string{"icmp", "icmp6", "udp", "tcp"})
		if hint == "" {
			hint = "want icmp, icmp6, udp/PORT or tcp/PORT"
		}
		wrong(fmt.Sprintf("%q is no protocol of packets", proto), hint)
		return
	}
	number, err := strconv.ParseUint(port, 10, 16)
	switch {
	case a.Proto == ping.ICMP && given:
		wrong("icmp has no ports", "leave /"+port+" out")
	case a.Proto == ping.ICMP:
	case !given:
		wrong(proto+" needs a port", "such as "+proto+"/53")
	case err != nil || number == 0:
		wrong(fmt.Sprintf("%q is no port", port), "want a number from 1 to 65535")
	}
	a.Port = uint16(number)
}
