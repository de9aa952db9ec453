package rulings

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"

	"github.com/cilium/ebpf"
	"github.com/mdlayher/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/trace"
)

// Node is a network namespace.
type Node struct {
	Name string   // as the topology names it
	NS   *os.File // nil is the process's own; it must stay open until Close
}

// Config says what is watched.
type Config struct {
	// Lab is in the name of our tables, and only there.
	Lab string
	// Selects is a socket filter that returns other than 0 for the packets that are
	// traced. It sees them from their network header on.
	Selects *ebpf.Program
	// All asks for every rule and policy that had a say, and not only for those that
	// decided.
	All bool
}

const (
	// room is for the kernel's messages, about 300 bytes of which take 1 KiB.
	room = 16 << 20
	// mostRulings bounds those that nobody takes.
	mostRulings = 1 << 16
)

// Watch is a trace of nft's in some nodes.
type Watch struct {
	nodes []*node
	group errgroup.Group // of the nodes' readers

	mu     sync.Mutex
	told   []trace.Ruling
	missed uint64
}

// node is one that is armed.
type node struct {
	Node
	table    string
	families []uint8 // that have the table
	socket   *socket // owns the tables, and hears
	walker   walker
	book     book
	dropped  uint32 // messages of the socket
}

// Open arms the nodes and begins to read. The packets that are on their way already
// are told of from the next hook on.
//
// The error wraps [errors.ErrUnsupported] where the kernel lacks what this is made
// of; nothing is armed then. Families other than IPv4 are left out where the kernel
// has no nft for them.
func Open(nodes []Node, c Config) (*Watch, error) {
	// Several traces may be of one lab.
	var unique [4]byte
	rand.Read(unique[:]) // never fails
	table := tablePrefix + c.Lab + "-" + hex.EncodeToString(unique[:])
	w := &Watch{}
	for _, n := range nodes {
		armed, err := arm(n, table, c)
		if err != nil {
			err = fmt.Errorf("arm nft trace in %s: %w", n.Name, err)
			return nil, errors.Join(err, w.Close())
		}
		w.nodes = append(w.nodes, armed)
		w.group.Go(func() error { return w.read(armed) })
	}
	return w, nil
}

// Take returns the rulings since the last call, each node's in their order. It does
// not wait.
func (w *Watch) Take() []trace.Ruling {
	w.mu.Lock()
	defer w.mu.Unlock()
	told := w.told
	w.told = nil
	return told
}

// Lost returns how many of the kernel's messages, or rulings, there was no room
// for.
func (w *Watch) Lost() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.missed
}

// Close removes the tables, and returns when all that was said until then can be
// taken.
func (w *Watch) Close() error {
	err := w.each((*node).disarm)
	err = errors.Join(err, w.group.Wait(), w.each((*node).close))
	w.nodes = nil
	return err
}

// each calls do for all nodes at once: the kernel takes some ms for a table to go.
func (w *Watch) each(do func(*node) error) error {
	errs := make([]error, len(w.nodes))
	var wg sync.WaitGroup
	for i, n := range w.nodes {
		wg.Go(func() { errs[i] = do(n) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func arm(at Node, table string, c Config) (*node, error) {
	s, err := dial(at.NS)
	if err != nil {
		return nil, err
	}
	n := &node{Node: at, table: table, socket: s}
	n.book = book{ns: at.NS, chains: make(map[place]chain)}
	n.walker = walker{all: c.All, rules: &n.book, open: make(map[walkID]walk)}
	if n.book.ask, err = dial(at.NS); err != nil {
		return nil, errors.Join(err, n.close())
	}
	// Without it rules have no text.
	n.book.nft, _ = exec.LookPath("nft")
	if err := n.arm(c.Selects.FD()); err != nil {
		return nil, errors.Join(err, n.close())
	}
	return n, nil
}

// arm makes the tables and subscribes to what is said. IPv4 is the first family: a
// modular kernel finds xt_bpf by that, and not by the family bridge.
func (n *node) arm(prog int) error {
	ignore := func(syscall.NetlinkMessage) error { return nil }
	for _, family := range []uint8{unix.NFPROTO_IPV4, unix.NFPROTO_IPV6, unix.NFPROTO_BRIDGE} {
		messages, err := arming(n.table, family, prog)
		if err != nil {
			return err
		}
		err = n.socket.exchange(ignore, messages...)
		switch {
		case err == nil:
			n.families = append(n.families, family)
		case family == unix.NFPROTO_IPV4 || !missing(err):
			return explain(err)
		}
	}
	if err := n.socket.subscribe(room, unix.NFNLGRP_NFTRACE, unix.NFNLGRP_NFTABLES); err != nil {
		return err
	}
	return n.learn()
}

// learn asks which generation the ruleset is.
func (n *node) learn() error {
	err := n.book.ask.exchange(func(m syscall.NetlinkMessage) error {
		return n.turn(m.Data)
	}, request(unix.NFT_MSG_GETGEN, 0, unix.AF_UNSPEC, func(*netlink.AttributeEncoder) {}))
	if err != nil {
		return fmt.Errorf("ask for generation of nft's rules: %w", err)
	}
	return nil
}

// turn takes the body of an NFT_MSG_NEWGEN.
func (n *node) turn(b []byte) error {
	if len(b) < generalLen {
		return fmt.Errorf("parse nft generation: %d bytes", len(b))
	}
	return attributes(b[generalLen:], func(ad *netlink.AttributeDecoder) {
		if ad.Type() == unix.NFTA_GEN_ID {
			n.book.turn(ad.Uint32())
		}
	})
}

// missing says that the kernel does not know what it was asked for.
func missing(err error) bool {
	return slices.ContainsFunc([]error{unix.ENOENT, unix.EOPNOTSUPP, unix.EAFNOSUPPORT, unix.EPROTONOSUPPORT},
		func(errno error) bool { return errors.Is(err, errno) })
}

// explain says what the kernel lacks if that is why it refused.
func explain(err error) error {
	var r *refusal
	switch {
	case !errors.As(err, &r) || !missing(r):
		return err
	case r.kind&0xff == unix.NFT_MSG_NEWRULE:
		return fmt.Errorf("%w: match by a BPF program: %w (install the kernel modules nft_compat and xt_bpf)", errors.ErrUnsupported, err)
	}
	return fmt.Errorf("%w: nft table: %w (install the kernel module nf_tables)", errors.ErrUnsupported, err)
}

// read tells what the kernel says until the node is disarmed, and then what it said
// before.
func (w *Watch) read(n *node) error {
	for wait := true; ; {
		messages, err := n.socket.receive(wait)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			wait = false
			continue
		case err == nil && len(messages) > 0:
			err = w.take(n, messages)
		case err == nil:
			return w.count(n)
		}
		if err != nil {
			return fmt.Errorf("trace nft in %s: %w", n.Name, err)
		}
	}
}

func (w *Watch) take(n *node, messages []syscall.NetlinkMessage) error {
	now := collector.Now()
	for _, m := range messages {
		if m.Header.Type>>8 != unix.NFNL_SUBSYS_NFTABLES {
			continue // an answer to disarm
		}
		switch m.Header.Type & 0xff {
		case unix.NFT_MSG_NEWGEN:
			if err := n.turn(m.Data); err != nil {
				return err
			}
		case unix.NFT_MSG_TRACE:
			said, err := parseMessage(m.Data)
			if err != nil {
				return err
			}
			if r, ok := n.walker.add(&said, now); ok {
				r.Node = n.Name
				w.tell(r)
			}
		}
	}
	return w.count(n)
}

func (w *Watch) tell(r trace.Ruling) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.told) >= mostRulings {
		w.missed++
		return
	}
	w.told = append(w.told, r)
}

// count counts the messages that the socket had no room for. The change of a
// generation may be among them.
func (w *Watch) count(n *node) error {
	now, err := n.socket.drops()
	if err != nil || now == n.dropped {
		return err
	}
	w.mu.Lock()
	w.missed += uint64(now - n.dropped)
	w.mu.Unlock()
	n.dropped = now
	return n.learn()
}

// disarm removes the tables and lets the reader come to an end.
func (n *node) disarm() error {
	err := n.socket.send(disarming(n.table, n.families)...)
	if err != nil {
		err = fmt.Errorf("disarm nft trace in %s: %w", n.Name, err)
	}
	return errors.Join(err, n.socket.wake())
}

func (n *node) close() error {
	if n.book.ask == nil {
		return n.socket.close()
	}
	return errors.Join(n.socket.close(), n.book.ask.close())
}
