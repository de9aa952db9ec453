package topology

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"

	"github.com/nsbpf/nsbpf/internal/rtnl"
)

// Uplinks returns the devices of the default routes, IPv4 and IPv6, of the
// namespace nsbpf runs in, sorted.
func Uplinks() ([]string, error) {
	c, err := rtnl.Dial(nil)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	routes, err := c.Routes()
	if err != nil {
		return nil, err
	}
	links, err := c.Links()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, l := range links {
		for _, r := range routes {
			if r.Dst.Bits() == 0 && slices.Contains(r.Indexes, l.Index) {
				names = append(names, l.Name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// ForwardDrop returns the nft chains of others, as "table ip filter, chain
// FORWARD", that drop forwarded packets by policy. Where bridged packets pass
// netfilter they drop those, too, and no rule of ours can undo it.
func ForwardDrop() ([]string, error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	chains, err := conn.ListChains()
	if err != nil {
		return nil, fmt.Errorf("list nft chains: %w", err)
	}
	var names []string
	for _, c := range chains {
		if c.Hooknum == nil || *c.Hooknum != *nftables.ChainHookForward || c.Policy == nil || *c.Policy != nftables.ChainPolicyDrop {
			continue
		}
		family, ok := map[nftables.TableFamily]string{
			nftables.TableFamilyIPv4:   "ip",
			nftables.TableFamilyIPv6:   "ip6",
			nftables.TableFamilyINet:   "inet",
			nftables.TableFamilyBridge: "bridge",
		}[c.Table.Family]
		if ok && !strings.HasPrefix(c.Table.Name, "nsbpf-") {
			names = append(names, fmt.Sprintf("table %s %s, chain %s", family, c.Table.Name, c.Name))
		}
	}
	slices.Sort(names)
	return names, nil
}
