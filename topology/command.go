package topology

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Commands implements [Step].
func (s AddNetns) Commands() []string {
	return []string{
		"ip netns add " + s.Netns,
		inside(s.Netns, "sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0"),
		ip(s.Netns, "link set lo alias nsbpf:%s", s.Lab),
		ip(s.Netns, "link set lo up"),
	}
}

// Commands implements [Step].
func (s SetSysctl) Commands() []string {
	return []string{inside(s.Netns, "sysctl -qw "+quote(s.Key+"="+s.Value))}
}

// Commands implements [Step].
func (s AddBridge) Commands() []string {
	cmds := []string{ip(s.Netns, "link add %s address %s group %d type bridge", s.Name, s.MAC, s.Group)}
	return append(cmds, altname(s.Netns, s.Name, s.AltName)...)
}

// Commands implements [Step]. They run in the namespace of B if that is the
// one nsbpf runs in, which has no name that could be given to a peer.
func (s AddVeth) Commands() []string {
	near, far := s.A, s.B
	if far.Netns == "" {
		near, far = far, near
	}
	options := fmt.Sprintf("group %d", s.Group)
	if s.MTU != 0 {
		options += fmt.Sprintf(" mtu %d", s.MTU)
	}
	options += " numtxqueues 1 numrxqueues 1"
	add := fmt.Sprintf("link add %s %s type veth peer name %s %s", near.numbered(), options, far.numbered(), options)
	if far.Netns != near.Netns {
		add += " netns " + far.Netns
	}
	cmds := []string{ip(near.Netns, "%s", add)}
	for _, end := range []VethEnd{near, far} {
		cmds = append(cmds, altname(end.Netns, end.Name, end.AltName)...)
		if end.Master != "" {
			cmds = append(cmds,
				ip(end.Netns, "link set %s addrgenmode none", end.Name),
				ip(end.Netns, "link set %s master %s", end.Name, end.Master))
		}
	}
	return cmds
}

func (e VethEnd) numbered() string {
	if e.Index == 0 {
		return e.Name
	}
	return fmt.Sprintf("%s index %d", e.Name, e.Index)
}

// Commands implements [Step].
func (s AddAddr) Commands() []string {
	option := ""
	switch {
	case s.Addr.Addr().Is6():
		option = " nodad"
	case s.Addr.Bits() < 31:
		option = " brd +"
	}
	return []string{ip(s.Netns, "addr add %s%s dev %s", s.Addr, option, s.Device)}
}

// Commands implements [Step].
func (s SetUp) Commands() []string { return []string{ip(s.Netns, "link set %s up", s.Device)} }

// Commands implements [Step].
func (s AddRoute) Commands() []string {
	family := ""
	if s.Via.Is6() {
		family = "-6 "
	}
	return []string{ip(s.Netns, "%sroute add %s via %s", family, Route{s.Dst, s.Via}.target(), s.Via)}
}

// target returns the destination as ip(8) has it.
func (r Route) target() string {
	if r.Dst.Bits() == 0 {
		return "default"
	}
	return r.Dst.String()
}

// Commands implements [Step]: one transaction with a table for each family.
func (s AddMasquerade) Commands() []string {
	var b strings.Builder
	for _, family := range []string{"ip", "ip6"} {
		sources := slices.DeleteFunc(slices.Clone(s.Sources), func(p netip.Prefix) bool {
			return p.Addr().Is6() != (family == "ip6")
		})
		if len(sources) == 0 {
			continue
		}
		fmt.Fprintf(&b, "table %s %s {\n\tchain POSTROUTING {\n", family, s.Table)
		b.WriteString("\t\ttype nat hook postrouting priority srcnat;\n")
		for _, src := range sources {
			fmt.Fprintf(&b, "\t\t%s saddr %s%s counter masquerade comment \"nsbpf\"\n", family, src, s.guard())
		}
		b.WriteString("\t}\n}\n")
	}
	return []string{inside(s.Netns, "nft -f - <<'EOF'\n"+b.String()+"EOF")}
}

// guard returns the match that spares traffic which leaves by a bridge.
func (s AddMasquerade) guard() string {
	switch len(s.NotOut) {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf(" oifname != %q", s.NotOut[0])
	}
	var names []string
	for _, n := range s.NotOut {
		names = append(names, fmt.Sprintf("%q", n))
	}
	return " oifname != { " + strings.Join(names, ", ") + " }"
}

// ip returns an ip(8) command that works on namespace netns.
func ip(netns, format string, args ...any) string {
	cmd := fmt.Sprintf(format, args...)
	if netns == "" {
		return "ip " + cmd
	}
	return "ip -n " + netns + " " + cmd
}

// inside returns cmd so that it runs in namespace netns.
func inside(netns, cmd string) string {
	if netns == "" {
		return cmd
	}
	return "ip netns exec " + netns + " " + cmd
}

func altname(netns, device, name string) []string {
	if name == "" {
		return nil
	}
	return []string{ip(netns, "link property add dev %s altname %s", device, name)}
}

// quote returns s as one word of sh. Names need no quoting: see [Parse].
func quote(s string) string {
	plain := func(r rune) bool { return !isNameRune(r) && !strings.ContainsRune("=/:,+", r) }
	if s != "" && strings.IndexFunc(s, plain) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
