package forward

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// readTables reads the nft tables of a namespace. Rules and sets are taken from
// the kernel's messages here, because the library leaves out of a rule what it
// does not know, which would change what the rule says.
func readTables(ns *os.File) ([]Table, error) {
	conn, err := nftables.New(nftables.WithNetNSFd(int(ns.Fd())))
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	defer conn.CloseLasting()
	found, err := conn.ListTables()
	if err != nil {
		return nil, fmt.Errorf("list nft tables: %w", err)
	}
	if len(found) == 0 {
		return nil, nil
	}
	tables := make([]Table, len(found))
	for i, t := range found {
		tables[i] = Table{Family: families[byte(t.Family)], Name: t.Name, Dormant: t.Flags&1 != 0}
	}
	chains, err := conn.ListChains()
	if err != nil {
		return nil, fmt.Errorf("list nft chains: %w", err)
	}
	for _, c := range chains {
		if t := tableOf(tables, byte(c.Table.Family), c.Table.Name); t != nil {
			t.Chains = append(t.Chains, chainOf(t.Family, c))
		}
	}
	d, err := dialNft(ns)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	if err := d.rules(tables); err != nil {
		return nil, fmt.Errorf("list nft rules: %w", err)
	}
	for i := range tables {
		if err := d.sets(&tables[i]); err != nil {
			return nil, fmt.Errorf("list nft sets of table %s: %w", tables[i].Name, err)
		}
	}
	return tables, nil
}

var families = map[byte]string{
	unix.NFPROTO_IPV4: "ip", unix.NFPROTO_IPV6: "ip6", unix.NFPROTO_INET: "inet",
	unix.NFPROTO_ARP: "arp", unix.NFPROTO_BRIDGE: "bridge", unix.NFPROTO_NETDEV: "netdev",
}

func tableOf(tables []Table, family byte, name string) *Table {
	for i := range tables {
		if tables[i].Family == families[family] && tables[i].Name == name {
			return &tables[i]
		}
	}
	return nil
}

func chainOf(family string, c *nftables.Chain) Chain {
	chain := Chain{Name: c.Name, Device: c.Device}
	if c.Hooknum == nil {
		return chain
	}
	hooks := []string{"prerouting", "input", "forward", "output", "postrouting", "ingress"}
	switch family {
	case "netdev":
		hooks = []string{"ingress", "egress"}
	case "arp":
		hooks = []string{"input", "output", "forward"}
	}
	if n := int(*c.Hooknum); n < len(hooks) {
		chain.Hook = hooks[n]
	}
	chain.Kind, chain.Policy = string(c.Type), "accept"
	if c.Priority != nil {
		chain.Priority = int(*c.Priority)
	}
	if c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop {
		chain.Policy = "drop"
	}
	return chain
}

// nftDump asks for lists of nft's objects.
type nftDump struct{ *netlink.Conn }

func dialNft(ns *os.File) (nftDump, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: int(ns.Fd())})
	if err != nil {
		return nftDump{}, fmt.Errorf("open nftables: %w", err)
	}
	return nftDump{c}, nil
}

// maxDumps bounds how often a list is asked for that changes meanwhile.
const maxDumps = 20

// list calls fn for each answer to a request, with the family and the attributes.
func (d nftDump) list(kind int, family byte, request []netlink.Attribute, fn func(byte, attrs) error) error {
	body, err := netlink.MarshalAttributes(request)
	if err != nil {
		return err
	}
	msg := netlink.Message{
		Header: netlink.Header{
			Type:  netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind),
			Flags: netlink.Request | netlink.Dump,
		},
		Data: append([]byte{family, 0, 0, 0}, body...),
	}
	for range maxDumps {
		answers, err := d.Execute(msg)
		if err != nil {
			return err
		}
		if interrupted(answers) {
			continue
		}
		for _, m := range answers {
			if len(m.Data) < 4 {
				return fmt.Errorf("answer of %d bytes", len(m.Data))
			}
			as, err := parseAttrs(m.Data[4:])
			if err != nil {
				return err
			}
			if err := fn(m.Data[0], as); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("after %d tries: it changes while it is read", maxDumps)
}

func interrupted(answers []netlink.Message) bool {
	for _, m := range answers {
		if m.Header.Flags&netlink.DumpInterrupted != 0 {
			return true
		}
	}
	return false
}

func (d nftDump) rules(tables []Table) error {
	return d.list(unix.NFT_MSG_GETRULE, unix.NFPROTO_UNSPEC, nil, func(family byte, a attrs) error {
		t := tableOf(tables, family, a.text(unix.NFTA_RULE_TABLE))
		if t == nil {
			return nil // made meanwhile
		}
		c := t.chain(a.text(unix.NFTA_RULE_CHAIN))
		if c == nil {
			return nil
		}
		line := Line{Handle: a.u64(unix.NFTA_RULE_HANDLE)}
		exprs, err := parseList(a[unix.NFTA_RULE_EXPRESSIONS])
		if err != nil {
			return err
		}
		for _, e := range exprs {
			parsed, err := parseExpr(family, e)
			if err != nil {
				return err
			}
			line.Exprs = append(line.Exprs, parsed)
		}
		c.Rules = append(c.Rules, line)
		return nil
	})
}

// sets reads those that rules of t look into.
func (d nftDump) sets(t *Table) error {
	used := map[string]bool{}
	for _, c := range t.Chains {
		for _, l := range c.Rules {
			for _, e := range l.Exprs {
				if e.Op == "lookup" {
					used[e.Set] = true
				}
			}
		}
	}
	if len(used) == 0 {
		return nil
	}
	var family byte
	for f, name := range families {
		if name == t.Family {
			family = f
		}
	}
	of := netlink.Attribute{Type: unix.NFTA_SET_TABLE, Data: []byte(t.Name + "\x00")}
	err := d.list(unix.NFT_MSG_GETSET, family, []netlink.Attribute{of}, func(f byte, a attrs) error {
		if f != family || !used[a.text(unix.NFTA_SET_NAME)] || a.text(unix.NFTA_SET_TABLE) != t.Name {
			return nil
		}
		s := Set{
			Name:   a.text(unix.NFTA_SET_NAME),
			Fields: []int{int(a.u32(unix.NFTA_SET_KEY_LEN))},
			Map:    a.u32(unix.NFTA_SET_FLAGS)&unix.NFT_SET_MAP != 0,
		}
		if err := s.parseFields(a); err != nil {
			return err
		}
		t.Sets = append(t.Sets, s)
		return nil
	})
	if err != nil {
		return err
	}
	for i := range t.Sets {
		if err := d.elements(t, family, &t.Sets[i]); err != nil {
			return err
		}
	}
	return nil
}

// parseFields reads the lengths of what a key is put together from, where the
// kernel knows them.
func (s *Set) parseFields(a attrs) error {
	const descConcat, listElem, fieldLen = 2, 1, 1
	desc, err := parseAttrs(a[unix.NFTA_SET_DESC])
	if err != nil {
		return err
	}
	fields, err := parseList(desc[descConcat])
	if err != nil || len(fields) == 0 {
		return err
	}
	s.Fields = nil
	for _, f := range fields {
		s.Fields = append(s.Fields, int(f.u32(fieldLen)))
	}
	return nil
}

func (d nftDump) elements(t *Table, family byte, s *Set) error {
	const flagCatchAll, attrKeyEnd = 2, 10
	var edges []edge
	of := []netlink.Attribute{
		{Type: unix.NFTA_SET_ELEM_LIST_TABLE, Data: []byte(t.Name + "\x00")},
		{Type: unix.NFTA_SET_ELEM_LIST_SET, Data: []byte(s.Name + "\x00")},
	}
	err := d.list(unix.NFT_MSG_GETSETELEM, family, of, func(_ byte, a attrs) error {
		list, err := parseList(a[unix.NFTA_SET_ELEM_LIST_ELEMENTS])
		if err != nil {
			return err
		}
		for _, e := range list {
			var el Element
			key, _, _, err := e.data(unix.NFTA_SET_ELEM_KEY)
			if err != nil {
				return err
			}
			if el.Last, _, _, err = e.data(attrKeyEnd); err != nil {
				return err
			}
			if el.Value, el.Verdict, el.Chain, err = e.data(unix.NFTA_SET_ELEM_DATA); err != nil {
				return err
			}
			flags := e.u32(unix.NFTA_SET_ELEM_FLAGS)
			if flags&flagCatchAll == 0 {
				el.Key = key
			}
			edges = append(edges, edge{el, flags&unix.NFT_SET_ELEM_INTERVAL_END != 0})
		}
		return nil
	})
	s.Elements = intervals(edges)
	return err
}

// attrs are netlink attributes by type.
type attrs map[uint16][]byte

func parseAttrs(b []byte) (attrs, error) {
	list, err := netlink.UnmarshalAttributes(b)
	if err != nil {
		return nil, err
	}
	as := make(attrs, len(list))
	for _, a := range list {
		as[a.Type] = a.Data
	}
	return as, nil
}

// parseList reads a list of nested attributes.
func parseList(b []byte) ([]attrs, error) {
	list, err := netlink.UnmarshalAttributes(b)
	if err != nil {
		return nil, err
	}
	var out []attrs
	for _, a := range list {
		as, err := parseAttrs(a.Data)
		if err != nil {
			return nil, err
		}
		out = append(out, as)
	}
	return out, nil
}

func (a attrs) text(kind uint16) string {
	text, _, _ := bytes.Cut(a[kind], []byte{0})
	return string(text)
}

func (a attrs) u32(kind uint16) uint32 {
	if len(a[kind]) == 1 {
		return uint32(a[kind][0])
	}
	if len(a[kind]) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(a[kind])
}

func (a attrs) u64(kind uint16) uint64 {
	if len(a[kind]) < 8 {
		return 0
	}
	return binary.BigEndian.Uint64(a[kind])
}

// data reads a value or a verdict.
func (a attrs) data(kind uint16) (value Bytes, verdict, chain string, err error) {
	if a[kind] == nil {
		return nil, "", "", nil
	}
	as, err := parseAttrs(a[kind])
	if err != nil {
		return nil, "", "", err
	}
	if v := as[unix.NFTA_DATA_VERDICT]; v != nil {
		parts, err := parseAttrs(v)
		if err != nil {
			return nil, "", "", err
		}
		return nil, verdicts[int32(parts.u32(unix.NFTA_VERDICT_CODE))], parts.text(unix.NFTA_VERDICT_CHAIN), nil
	}
	return bytes.Clone(as[unix.NFTA_DATA_VALUE]), "", "", nil
}

var verdicts = map[int32]string{
	-5: "return", -4: "goto", -3: "jump", -2: "break", -1: "continue", 0: "drop", 1: "accept", 2: "queue", 3: "queue",
}
