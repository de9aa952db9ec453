package rulings

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	// tableOwner is NFT_TABLE_F_OWNER: the table goes with the socket that made it,
	// and nobody else can change it. Linux 5.12.
	tableOwner = 2
	// hardwareEthernet is ARPHRD_ETHER.
	hardwareEthernet = 1
	generalLen       = 4 // of struct nfgenmsg
)

// ourHooks are where our table turns the trace on: where packets come in, and where
// a node's own begin. They have the same numbers in the family bridge.
var ourHooks = []uint32{unix.NF_INET_PRE_ROUTING, unix.NF_INET_LOCAL_OUT}

// hookNames are nft's names of enum nf_inet_hooks.
var hookNames = [...]string{"prerouting", "input", "forward", "output", "postrouting", "ingress"}

// request returns a message of nf_tables.
func request(kind int, flags netlink.HeaderFlags, family uint8, encode func(*netlink.AttributeEncoder)) netlink.Message {
	ae := netlink.NewAttributeEncoder()
	ae.ByteOrder = binary.BigEndian
	encode(ae)
	// Encode fails for values above 64 KiB only.
	attributes, _ := ae.Encode()
	return netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind), Flags: flags},
		Data:   append([]byte{family, unix.NFNETLINK_V0, 0, 0}, attributes...),
	}
}

// batch makes one transaction of messages.
func batch(messages []netlink.Message) []netlink.Message {
	edge := func(kind netlink.HeaderType) netlink.Message {
		return netlink.Message{
			Header: netlink.Header{Type: kind},
			Data:   []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, unix.NFNL_SUBSYS_NFTABLES},
		}
	}
	all := append([]netlink.Message{edge(unix.NFNL_MSG_BATCH_BEGIN)}, messages...)
	return append(all, edge(unix.NFNL_MSG_BATCH_END))
}

// arming returns the transaction that makes a table of a family. It turns the trace
// on for the packets for which the socket filter with the descriptor prog returns
// other than 0.
func arming(table string, family uint8, prog int) ([]netlink.Message, error) {
	exprs, err := marking(family, prog)
	if err != nil {
		return nil, err
	}
	const fresh = netlink.Create | netlink.Excl
	messages := []netlink.Message{request(unix.NFT_MSG_NEWTABLE, fresh, family, func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_TABLE_NAME, table)
		ae.Uint32(unix.NFTA_TABLE_FLAGS, tableOwner)
	})}
	for _, hook := range ourHooks {
		chain := hookNames[hook]
		messages = append(messages,
			request(unix.NFT_MSG_NEWCHAIN, fresh, family, func(ae *netlink.AttributeEncoder) {
				ae.String(unix.NFTA_CHAIN_TABLE, table)
				ae.String(unix.NFTA_CHAIN_NAME, chain)
				ae.String(unix.NFTA_CHAIN_TYPE, "filter")
				ae.Nested(unix.NFTA_CHAIN_HOOK, func(ae *netlink.AttributeEncoder) error {
					ae.Uint32(unix.NFTA_HOOK_HOOKNUM, hook)
					ae.Int32(unix.NFTA_HOOK_PRIORITY, math.MinInt32) // before all that can rule
					return nil
				})
			}),
			request(unix.NFT_MSG_NEWRULE, netlink.Create|netlink.Append, family, func(ae *netlink.AttributeEncoder) {
				ae.String(unix.NFTA_RULE_TABLE, table)
				ae.String(unix.NFTA_RULE_CHAIN, chain)
				ae.Nested(unix.NFTA_RULE_EXPRESSIONS, func(ae *netlink.AttributeEncoder) error {
					for _, e := range exprs {
						ae.Bytes(unix.NLA_F_NESTED|unix.NFTA_LIST_ELEM, e)
					}
					return nil
				})
			}))
	}
	return batch(messages), nil
}

// disarming returns the transaction that removes the tables.
func disarming(table string, families []uint8) []netlink.Message {
	var messages []netlink.Message
	for _, f := range families {
		messages = append(messages, request(unix.NFT_MSG_DELTABLE, 0, f, func(ae *netlink.AttributeEncoder) {
			ae.String(unix.NFTA_TABLE_NAME, table)
		}))
	}
	return batch(messages)
}

// marking returns the expressions of our rule: iptables' match "bpf", as nft has
// none, and `meta nftrace set 1 accept`: the end of our chain, not worth messages.
func marking(family uint8, prog int) ([][]byte, error) {
	const (
		modeELF  = 2   // XT_BPF_MODE_FD_ELF: a descriptor
		infoSize = 528 // of struct xt_bpf_info_v1
	)
	info := make(xt.Unknown, infoSize)
	binary.NativeEndian.PutUint16(info, modeELF)
	binary.NativeEndian.PutUint32(info[4:], uint32(prog))
	var out [][]byte
	for _, e := range []expr.Any{
		&expr.Match{Name: "bpf", Rev: 1, Info: &info},
		&expr.Immediate{Register: 1, Data: []byte{1}},
		&expr.Meta{Key: unix.NFT_META_NFTRACE, SourceRegister: true, Register: 1},
		&expr.Verdict{Kind: expr.VerdictAccept},
	} {
		b, err := expr.Marshal(family, e)
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

// parseMessage reads the body of an NFT_MSG_TRACE.
func parseMessage(b []byte) (message, error) {
	var m message
	if len(b) < generalLen {
		return m, fmt.Errorf("parse nft trace: %d bytes", len(b))
	}
	m.family = b[0]
	err := attributes(b[generalLen:], func(ad *netlink.AttributeDecoder) {
		switch ad.Type() {
		case unix.NFTA_TRACE_TABLE:
			m.table = ad.String()
		case unix.NFTA_TRACE_CHAIN:
			m.chain = ad.String()
		case unix.NFTA_TRACE_ID:
			m.id = ad.Uint32()
		case unix.NFTA_TRACE_TYPE:
			m.kind = kind(ad.Uint32())
		case unix.NFTA_TRACE_RULE_HANDLE:
			m.handle = ad.Uint64()
		case unix.NFTA_TRACE_POLICY:
			m.verdict = parseVerdict(ad.Uint32())
		case unix.NFTA_TRACE_VERDICT:
			ad.Nested(func(ad *netlink.AttributeDecoder) error {
				for ad.Next() {
					if ad.Type() == unix.NFTA_VERDICT_CODE {
						m.verdict = parseVerdict(ad.Uint32())
					}
				}
				return nil
			})
		case unix.NFTA_TRACE_IIFTYPE, unix.NFTA_TRACE_OIFTYPE:
			m.headers.ethernet = m.headers.ethernet || ad.Uint16() == hardwareEthernet
		case unix.NFTA_TRACE_LL_HEADER:
			m.headers.link = ad.Bytes()
		case unix.NFTA_TRACE_NETWORK_HEADER:
			m.headers.network = ad.Bytes()
		case unix.NFTA_TRACE_TRANSPORT_HEADER:
			m.headers.transport = ad.Bytes()
		}
	})
	if err != nil {
		return m, fmt.Errorf("parse nft trace: %w", err)
	}
	return m, nil
}

// parseVerdict leaves a queue's number and a drop's errno aside.
func parseVerdict(code uint32) verdict {
	if v := verdict(code); v < 0 && v >= unix.NFT_RETURN {
		return v
	}
	return verdict(code & 0xff)
}

// attributes calls take for each attribute of b.
func attributes(b []byte, take func(*netlink.AttributeDecoder)) error {
	ad, err := netlink.NewAttributeDecoder(b)
	if err != nil {
		return err
	}
	ad.ByteOrder = binary.BigEndian
	for ad.Next() {
		take(ad)
	}
	return ad.Err()
}
