package topology

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// ruleComment is on each rule of ours; a table without it is somebody else's.
const ruleComment = "nsbpf"

// nftFamily is what an IP version's rules are made of.
type nftFamily struct {
	table   nftables.TableFamily
	saddr   uint32 // offset of the source address in the header
	size    int    // of an address
	members func(netip.Addr) bool
}

var nftFamilies = []nftFamily{
	{nftables.TableFamilyIPv4, 12, 4, netip.Addr.Is4},
	{nftables.TableFamilyIPv6, 8, 16, netip.Addr.Is6},
}

func (s AddMasquerade) do(k *kernel) error {
	in, err := k.space(s.Netns)
	if err != nil {
		return err
	}
	conn, err := nftables.New(nftables.WithNetNSFd(int(in.ns.Fd())))
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	for _, f := range nftFamilies {
		if err := s.add(conn, f); err != nil {
			return fmt.Errorf("add nft table %q%s: %w", s.Table, where(s.Netns), err)
		}
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("add nft table %q%s: %w", s.Table, where(s.Netns), err)
	}
	return nil
}

// add queues the table of one family, if there are sources of it.
func (s AddMasquerade) add(conn *nftables.Conn, f nftFamily) error {
	sources := slices.DeleteFunc(slices.Clone(s.Sources), func(p netip.Prefix) bool { return !f.members(p.Addr()) })
	if len(sources) == 0 {
		return nil
	}
	table := conn.AddTable(&nftables.Table{Name: s.Table, Family: f.table})
	chain := conn.AddChain(&nftables.Chain{
		Name:     "POSTROUTING",
		Table:    table,
		Type:     nftables.ChainTypeNAT,
		Hooknum:  nftables.ChainHookPostrouting,
		Priority: nftables.ChainPriorityNATSource,
	})
	for _, src := range sources {
		guard, err := s.spareBridges(conn, table)
		if err != nil {
			return err
		}
		conn.AddRule(&nftables.Rule{
			Table:    table,
			Chain:    chain,
			Exprs:    slices.Concat(f.from(src), guard, []expr.Any{&expr.Counter{}, &expr.Masq{}}),
			UserData: userdata.AppendString(nil, userdata.TypeComment, ruleComment),
		})
	}
	return nil
}

// from matches packets with a source in p.
func (f nftFamily) from(p netip.Prefix) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: f.saddr, Len: uint32(f.size)},
		&expr.Bitwise{
			SourceRegister: 1,
			DestRegister:   1,
			Len:            uint32(f.size),
			Mask:           net.CIDRMask(p.Bits(), 8*f.size),
			Xor:            make([]byte, f.size),
		},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Masked().Addr().AsSlice()},
	}
}

// spareBridges matches packets that do not leave by one of NotOut.
func (s AddMasquerade) spareBridges(conn *nftables.Conn, table *nftables.Table) ([]expr.Any, error) {
	out := &expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}
	switch len(s.NotOut) {
	case 0:
		return nil, nil
	case 1:
		return []expr.Any{out, &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: ifname(s.NotOut[0])}}, nil
	}
	set := &nftables.Set{Table: table, Anonymous: true, Constant: true, KeyType: nftables.TypeIFName}
	var names []nftables.SetElement
	for _, n := range s.NotOut {
		names = append(names, nftables.SetElement{Key: ifname(n)})
	}
	if err := conn.AddSet(set, names); err != nil {
		return nil, err
	}
	return []expr.Any{out, &expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID, Invert: true}}, nil
}

// ifname returns a device's name as registers hold it.
func ifname(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

// undo removes the tables from the host, if their rules say that they are ours.
func (s AddMasquerade) undo() error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	tables, err := conn.ListTables()
	if err != nil {
		return fmt.Errorf("list nft tables: %w", err)
	}
	found := false
	for _, t := range tables {
		if t.Name != s.Table {
			continue
		}
		rules, err := conn.GetRules(t, &nftables.Chain{Name: "POSTROUTING", Table: t})
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("list rules of nft table %q: %w", s.Table, err)
		}
		if slices.ContainsFunc(rules, ours) {
			conn.DelTable(t)
			found = true
		}
	}
	if !found {
		return nil
	}
	if err := conn.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove nft table %q: %w", s.Table, err)
	}
	return nil
}

func ours(r *nftables.Rule) bool {
	comment, _ := userdata.GetString(r.UserData, userdata.TypeComment)
	return comment == ruleComment
}
