package rulings

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nsbpf/nsbpf/internal/testenv"
)

// TestSelected has packets that are not selected, in nodes at once: nobody speaks
// of them. All of those that are selected are told.
func TestSelected(t *testing.T) {
	network(t)
	rules(t, "r", `table ip fw {
		chain some { udp sport 1 drop; return; }
		chain flt { type filter hook forward priority 0; policy drop; jump some; udp dport 7778 drop; }
	}`)
	rules(t, "b", `table ip fw { chain flt { type filter hook input priority 0; policy drop; }; }`)
	w := open(t, true, "r", "b")
	send(t, "a", "10.0.2.2", tracedPort+1)
	send(t, "a", "10.0.2.2", tracedPort)
	send(t, "r", "10.0.2.2", tracedPort)
	var got []string
	for _, r := range take(t, w, 4) {
		if r.Packet.Dport != tracedPort {
			t.Errorf("port %d", r.Packet.Dport)
		}
		got = append(got, line(r))
	}
	slices.Sort(got) // the nodes have no order
	want := []string{
		"b input: ip fw flt [policy drop] drop",
		"r forward: ip fw flt [jump some] jump",
		"r forward: ip fw flt [policy drop] drop",
		"r forward: ip fw some [return] return",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestTwo has two traces in one namespace: both hear of both's packets, neither of
// the other's table, and each removes its own.
func TestTwo(t *testing.T) {
	network(t)
	rules(t, "r", `table ip fw { chain flt { type filter hook forward priority 0; policy drop; }; }`)
	before := inNode(t, "r", "nft", "list", "ruleset")
	one, two := open(t, true, "r"), open(t, true, "r")
	inNode(t, "r", "nft", "add rule ip fw flt udp dport 7777 drop")
	inNode(t, "r", "nft", "flush ruleset") // cannot remove what others own
	inNode(t, "r", "nft", before)
	if n := strings.Count(inNode(t, "r", "nft", "list", "tables"), tablePrefix+"lab-"); n != 6 {
		t.Errorf("%d tables of ours", n)
	}
	send(t, "a", "10.0.2.2", tracedPort)
	for _, w := range []*Watch{one, two} {
		rs := take(t, w, 1)
		if len(rs) != 1 || line(rs[0]) != "r forward: ip fw flt [policy drop] drop" {
			t.Errorf("%+v", rs)
		}
	}
	if diff := cmp.Diff(before, inNode(t, "r", "nft", "list", "ruleset")); diff != "" {
		t.Error(diff)
	}
}

// TestReplaced replaces a rule by another with the same handle while the trace
// runs.
func TestReplaced(t *testing.T) {
	network(t)
	const fw = `table ip fw { chain flt { type filter hook forward priority 0; %s drop; }; }`
	rules(t, "r", fmt.Sprintf(fw, "udp dport 7777"))
	w := open(t, false, "r")
	send(t, "a", "10.0.2.2", tracedPort)
	first := wait(t, w, 1)
	inNode(t, "r", "nft", "delete table ip fw; "+fmt.Sprintf(fw, "ip daddr 10.0.2.2"))
	send(t, "a", "10.0.2.2", tracedPort)
	second := take(t, w, 1)
	if len(first) != 1 || len(second) != 1 || first[0].Rule.Handle != second[0].Rule.Handle {
		t.Fatalf("%+v\n%+v", first, second)
	}
	if a, b := first[0].Rule.Text, second[0].Rule.Text; a != "udp dport 7777 drop" || b != "ip daddr 10.0.2.2 drop" {
		t.Errorf("%q, %q", a, b)
	}
}

// TestWithoutNft has no program to ask for the rules' text.
func TestWithoutNft(t *testing.T) {
	network(t)
	rules(t, "r", `table ip fw { chain flt { type filter hook forward priority 0; udp dport 7777 reject; }; }`)
	path := os.Getenv("PATH")
	t.Setenv("PATH", "")
	w := open(t, false, "r")
	t.Setenv("PATH", path)
	send(t, "a", "10.0.2.2", tracedPort)
	rs := take(t, w, 1)
	if len(rs) != 1 || line(rs[0]) != "r forward: ip fw flt [] reject" {
		t.Errorf("%+v", rs)
	}
}

// TestLost counts what a socket has no room for.
func TestLost(t *testing.T) {
	network(t)
	w := open(t, false, "a")
	s, err := dial(namespace(t, "a"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if err := s.subscribe(1, unix.NFNLGRP_NFTRACE); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		send(t, "a", "10.0.2.2", tracedPort)
	}
	read := 0
	for {
		messages, err := s.receive(false)
		if err != nil {
			t.Fatal(err)
		}
		if len(messages) == 0 {
			break
		}
		read += len(messages)
	}
	lost, err := s.drops()
	if err != nil || lost == 0 || read+int(lost) != 20 { // of each our own rule
		t.Errorf("%d read, %d lost, %v", read, lost, err)
	}
	take(t, w, 0)
}

// TestUnsupported asks for what the kernel does not have.
func TestUnsupported(t *testing.T) {
	testenv.Root(t)
	s, err := dial(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	messages, err := arming(tablePrefix+"x", unix.NFPROTO_IPV4, -1)
	if err != nil {
		t.Fatal(err)
	}
	none := func(syscall.NetlinkMessage) error { return nil }
	if err := s.exchange(none, messages...); !errors.Is(err, unix.EBADF) || errors.Is(explain(err), errors.ErrUnsupported) {
		t.Errorf("no program: %v", err)
	}
	for i := range messages {
		messages[i].Data = bytes.ReplaceAll(messages[i].Data, []byte("bpf\x00"), []byte("bpg\x00"))
	}
	err = explain(s.exchange(none, messages...))
	if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "xt_bpf") {
		t.Errorf("no match: %v", err)
	}
	if tables := testenv.Run(t, "nft", "list", "tables"); tables != "" {
		t.Errorf("left: %s", tables)
	}
}

const childDies = "NSBPF_TEST_CHILD"

func armAndDie() {
	prog, err := selectPort()
	if err == nil {
		_, err = Open([]Node{{Name: "host"}}, Config{Lab: "lab", Selects: prog})
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	out, _ := exec.Command("nft", "list", "tables").Output()
	os.Stdout.Write(out)
	_ = unix.Kill(os.Getpid(), unix.SIGKILL)
}

func TestKilled(t *testing.T) {
	network(t)
	rules(t, "r", `table inet fw { chain flt { type filter hook forward priority 0; policy drop; }; }`)
	before := inNode(t, "r", "nft", "list", "ruleset")
	cmd := exec.Command("ip", "netns", "exec", "r", "/proc/self/exe")
	cmd.Args[len(cmd.Args)-1], _ = os.Executable()
	cmd.Env = append(os.Environ(), childDies+"=1")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != unix.SIGKILL {
		t.Fatalf("it was not killed: %v\n%s", err, out)
	}
	if n := strings.Count(string(out), tablePrefix+"lab-"); n != 3 {
		t.Errorf("%d tables of ours\n%s", n, out)
	}
	if diff := cmp.Diff(before, inNode(t, "r", "nft", "list", "ruleset")); diff != "" {
		t.Error(diff)
	}
}
