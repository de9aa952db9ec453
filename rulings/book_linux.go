package rulings

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/nsbpf/nsbpf/internal/netns"
)

// book is what is known of a namespace's rules. Handles mean something in one
// generation of the ruleset only, so all is read again after a change, and what is
// already of a later generation than the messages that ask for it is not used.
type book struct {
	ns         *os.File
	ask        *socket
	nft        string // path of the program; "" if there is none
	generation uint32
	chains     map[place]chain
}

// chain is what is known of one.
type chain struct {
	hook  string
	rules map[uint64]rule
	texts map[uint64]string // nil until asked for
}

// rule is what is known of one from the kernel.
type rule struct {
	act     act
	foreign []string // its matches and targets of iptables, as nft names them
}

// turn goes to a generation.
func (b *book) turn(generation uint32) {
	b.generation = generation
	clear(b.chains)
}

func (b *book) hook(p place) string            { return b.open(p).hook }
func (b *book) act(p place, handle uint64) act { return b.open(p).rules[handle].act }

func (b *book) text(p place, handle uint64) string {
	c := b.open(p)
	if c.texts == nil {
		c.texts = b.list(p)
		b.chains[p] = c
	}
	text, ok := c.texts[handle]
	if !ok {
		return ""
	}
	return fill(text, c.rules[handle].foreign)
}

// open returns what the kernel says of the chain.
func (b *book) open(p place) chain {
	c, ok := b.chains[p]
	if ok {
		return c
	}
	c, _ = b.read(p)
	b.chains[p] = c
	return c
}

// read asks the kernel for the chain and its rules. It returns false and nothing if
// the answers are not of the book's generation.
func (b *book) read(p place) (chain, bool) {
	c := chain{rules: make(map[uint64]rule)}
	byName := func(table, name uint16) func(*netlink.AttributeEncoder) {
		return func(ae *netlink.AttributeEncoder) {
			ae.String(table, p.table)
			ae.String(name, p.chain)
		}
	}
	current := true
	take := func(m syscall.NetlinkMessage) error {
		if len(m.Data) < generalLen {
			return fmt.Errorf("answer of %d bytes", len(m.Data))
		}
		// struct nfgenmsg ends with the generation's low half.
		current = current && binary.BigEndian.Uint16(m.Data[2:]) == uint16(b.generation)
		switch m.Header.Type & 0xff {
		case unix.NFT_MSG_NEWCHAIN:
			return c.readChain(m.Data[generalLen:])
		case unix.NFT_MSG_NEWRULE:
			return c.readRule(m.Data[generalLen:])
		}
		return nil
	}
	err := errors.Join(
		b.ask.exchange(take, request(unix.NFT_MSG_GETCHAIN, 0, p.family, byName(unix.NFTA_CHAIN_TABLE, unix.NFTA_CHAIN_NAME))),
		b.ask.exchange(take, request(unix.NFT_MSG_GETRULE, netlink.Dump, p.family, byName(unix.NFTA_RULE_TABLE, unix.NFTA_RULE_CHAIN))))
	if err != nil || !current {
		return chain{}, false
	}
	return c, true
}

func (c *chain) readChain(b []byte) error {
	return attributes(b, func(ad *netlink.AttributeDecoder) {
		if ad.Type() != unix.NFTA_CHAIN_HOOK {
			return
		}
		ad.Nested(func(ad *netlink.AttributeDecoder) error {
			for ad.Next() {
				if ad.Type() != unix.NFTA_HOOK_HOOKNUM {
					continue
				}
				if n := ad.Uint32(); n < uint32(len(hookNames)) {
					c.hook = hookNames[n]
				}
			}
			return nil
		})
	})
}

func (c *chain) readRule(b []byte) error {
	var handle uint64
	var r rule
	err := attributes(b, func(ad *netlink.AttributeDecoder) {
		switch ad.Type() {
		case unix.NFTA_RULE_HANDLE:
			handle = ad.Uint64()
		case unix.NFTA_RULE_EXPRESSIONS:
			ad.Nested(func(ad *netlink.AttributeDecoder) error {
				for ad.Next() {
					ad.Nested(r.readExpr)
				}
				return nil
			})
		}
	})
	c.rules[handle] = r
	return err
}

// readExpr adds an expression.
func (r *rule) readExpr(ad *netlink.AttributeDecoder) error {
	var name string
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_EXPR_NAME:
			name = ad.String()
		case unix.NFTA_EXPR_DATA:
			if name != "match" && name != "target" {
				continue
			}
			kind := name
			ad.Nested(func(ad *netlink.AttributeDecoder) error {
				for ad.Next() {
					if ad.Type() == unix.NFTA_TARGET_NAME { // that of a match is the same
						name = ad.String()
					}
				}
				return nil
			})
			r.foreign = append(r.foreign, "xt "+kind+" "+strconv.Quote(name))
		}
	}
	r.act = max(r.act, acts[name])
	return nil
}

// acts are what expressions, and iptables' targets, do.
var acts = map[string]act{
	"reject": actReject, "REJECT": actReject,
	"masq": actTranslate, "nat": actTranslate, "redir": actTranslate,
	"MASQUERADE": actTranslate, "SNAT": actTranslate, "DNAT": actTranslate, "REDIRECT": actTranslate, "NETMAP": actTranslate,
}

// list returns the chain's rules as nft prints them; none if there is no nft, or
// the rules changed meanwhile.
func (b *book) list(p place) map[uint64]string {
	none := make(map[uint64]string)
	if b.nft == "" || !identifier.MatchString(p.table) || !identifier.MatchString(p.chain) {
		return none
	}
	var out bytes.Buffer
	err := netns.Do(b.ns, func() error {
		cmd := exec.Command(b.nft, "-a", "-s", "list", "chain", familyNames[p.family], p.table, p.chain)
		cmd.Stdout = &out
		return cmd.Run()
	})
	if err != nil {
		return none
	}
	if _, ok := b.read(p); !ok {
		return none
	}
	return parseListing(out.String())
}
