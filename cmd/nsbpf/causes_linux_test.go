package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/nsbpf/nsbpf/internal/testenv"
	"github.com/nsbpf/nsbpf/trace/why"
)

// fault is one reason for which packets die in the lab nat, and what is to be said
// of it.
type fault struct {
	name    string
	do      []string // makes it, each "NODE: COMMAND"
	arrange func(*testing.T)
	mends   bool // the advice's first command is all that it takes
	explain bool // the trace is to be told of rules
	send    sender
	expr    string    // chooses the packet; "": by its destination
	code    string    // of the conclusion
	says    [2]string // its sentence of IPv4 and of IPv6; "": there is nothing to try
}

// sender sends what dies, of IPv4 or of IPv6.
type sender func(t *testing.T, six bool)

// TestCauses makes each fault in a lab of its own, and checks what `nsbpf trace`
// says of a packet that dies of it.
func TestCauses(t *testing.T) {
	testenv.Root(t)
	var rows []row
	for _, f := range faults() {
		t.Run(f.name, func(t *testing.T) {
			if !testing.Short() {
				leavesNothing(t)
			}
			upLab(t, "nat", "--wan")
			warmUp(t)
			for _, line := range f.do {
				node, command, _ := strings.Cut(line, ": ")
				testenv.Run(t, "nsbpf", "exec", "nat/"+node, "--", "sh", "-ec", command)
			}
			if f.arrange != nil {
				f.arrange(t)
			}
			for six, want := range f.says {
				if want == "" {
					continue
				}
				t.Run([]string{"IPv4", "IPv6"}[six], func(t *testing.T) {
					rows = append(rows, f.check(t, six == 1, want))
				})
			}
		})
	}
	checkDocs(t, rows)
}

// warmUp has bridges and neighbours learn where everybody is.
func warmUp(t *testing.T) {
	for _, to := range []string{"8.8.8.8", "2001:4860:4860::8888", "172.16.16.20", "fd16::20"} {
		pingLeft(t, to)
	}
}

// row is what docs/drops.md says of a fault.
type row struct{ name, kernel, says string }

// check sends what dies, and returns what was said of it.
func (f *fault) check(t *testing.T, six bool, want string) row {
	t.Helper()
	got := f.traced(t, six, "dropped").Conclusion
	if got == nil {
		t.Fatal("no packet died")
	}
	sentence := macs.ReplaceAllString(got.Sentence, "…")
	if got.Code != f.code || sentence != want {
		t.Errorf("concluded %s\n got %q\nwant %q\n%+q", got.Code, sentence, want, got.Evidence)
	}
	if f.mends && (six || f.says[1] == "") {
		command, _, _ := strings.Cut(strings.SplitAfterN(got.Advice, "`", 2)[1], "`")
		testenv.Run(t, "sh", "-ec", command)
		if p := f.traced(t, six, "not dropped"); p.Verdict != "delivered" {
			t.Errorf("after %q a packet is %q", command, p.Verdict)
		}
	}
	kernel := "nothing"
	if len(got.Evidence) > 0 {
		if rest, ok := strings.CutPrefix(got.Evidence[0], "kernel: "); ok {
			kernel, _, _ = strings.Cut(rest, ",")
		}
	}
	return row{f.name, kernel, sentence}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

var macs = regexp.MustCompile(`([0-9a-f]{2}:){5}[0-9a-f]{2}`)

// ended is what is read of a path.
type ended struct {
	Schema, Verdict string
	Conclusion      *why.Conclusion
}

// traced sends, and returns the path of the first packet that ended as said.
func (f *fault) traced(t *testing.T, six bool, as string) ended {
	t.Helper()
	expr := f.expr
	if expr == "" {
		expr = "dst host " + wanAddrs[btoi(six)]
	}
	args := []string{"trace", "nat", "--json", "-c1", "--for=3s"}
	if f.explain {
		args = append(args, "--explain")
	}
	tr := startTrace(t, append(args, "("+expr+") and "+as)...)
	f.send(t, six)
	var talk strings.Builder
	_, copied := io.Copy(&talk, tr.stderr)
	if err := tr.cmd.Wait(); err != nil || copied != nil {
		t.Fatalf("trace: %v, %v\n%s", err, copied, talk.String())
	}
	var first ended
	if err := json.NewDecoder(&tr.stdout).Decode(&first); err != nil {
		t.Fatal(err)
	}
	return first
}

// checkDocs looks up in docs/drops.md what was said, and rewrites its table if
// UPDATE_DOCS is set.
func checkDocs(t *testing.T, rows []row) {
	const file, begin, end = "../../docs/drops.md", "<!-- causes -->\n", "<!-- end -->"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	table, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", file)
	}
	if os.Getenv("UPDATE_DOCS") != "" && !t.Failed() {
		table = tableOf(rows)
		if err := os.WriteFile(file, []byte(before+begin+table+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range rows {
		if !strings.Contains(table, "| "+r.says+" |") {
			t.Errorf("%s does not say %q (UPDATE_DOCS=1 rewrites its table)", file, r.says)
		}
	}
}

// tableOf returns the rows as a table. What is said of both families of a fault is
// one row if it is the same.
func tableOf(rows []row) string {
	var b strings.Builder
	b.WriteString("| what was wrong | the kernel said | nsbpf says |\n|---|---|---|\n")
	for i := 0; i < len(rows); i++ {
		r := rows[i]
		kernel := "`" + r.kernel + "`"
		if i+1 < len(rows) && rows[i+1].name == r.name && rows[i+1].says == r.says {
			if i++; rows[i].kernel != r.kernel {
				kernel += ", `" + rows[i].kernel + "`"
			}
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", r.name, kernel, r.says)
	}
	return b.String()
}

// tried runs a command in a node, which may fail.
func tried(t *testing.T, node string, args ...string) {
	t.Helper()
	out, err := exec.Command(testenv.Tool(t, "nsbpf"), append([]string{"exec", "nat/" + node, "--"}, args...)...).CombinedOutput()
	t.Logf("%s: %s\n%s%v", node, strings.Join(args, " "), out, err)
}

// TestNothingDied checks that of packets that did their work none is called dropped,
// whatever the kernel does with them at the end.
func TestNothingDied(t *testing.T) {
	testenv.Root(t)
	upLab(t, "nat", "--wan")
	warmUp(t)
	tr := startTrace(t, "trace", "nat", "--json", "(tcp or udp or icmp or icmp6-echo or icmp6-echoreply) and dropped")
	for six, to := range wanAddrs {
		chat(t, net.JoinHostPort(to, "81"), 100, 4000, 60000)
		for _, reset := range []bool{false, true} {
			talk(t, net.JoinHostPort(to, "81"), reset)
		}
		tried(t, "left", "ping", "-nqc3", "-i0.05", wanAddrs[six])
	}
	out, err := tr.end(os.Interrupt)
	if err != nil {
		t.Fatal(err)
	}
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		var p ended
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		if p.Schema == "nsbpf.path/1" {
			t.Errorf("%s: %+v", p.Verdict, p.Conclusion)
		}
	}
}

// chat sends datagrams of those sizes from left to wan, which come back.
func chat(t *testing.T, addr string, sizes ...int) {
	t.Helper()
	var server net.PacketConn
	in(t, "wan", func() (err error) {
		server, err = net.ListenPacket("udp", addr)
		return err
	})
	defer server.Close()
	var conn net.Conn
	in(t, "left", func() (err error) {
		conn, err = net.Dial("udp", addr)
		return err
	})
	defer conn.Close()
	b := make([]byte, 1<<16)
	for _, size := range sizes {
		_, err := conn.Write(b[:size])
		deadline := time.Now().Add(5 * time.Second)
		err = errors.Join(err, server.SetReadDeadline(deadline), conn.SetReadDeadline(deadline))
		n, from, err2 := server.ReadFrom(b)
		if err = errors.Join(err, err2); err == nil {
			_, err = server.WriteTo(b[:n], from)
		}
		n, err2 = conn.Read(b)
		if err = errors.Join(err, err2); err != nil || n != size {
			t.Fatalf("%d of %d bytes came back: %v", n, size, err)
		}
	}
}

// talk connects from left to wan and sends a megabyte, which comes back.
func talk(t *testing.T, addr string, reset bool) {
	t.Helper()
	var ln net.Listener
	in(t, "wan", func() (err error) {
		ln, err = net.Listen("tcp", addr)
		return err
	})
	var g errgroup.Group
	g.Go(func() error {
		conn, err := ln.Accept()
		if err != nil {
			return err
		}
		_, err = io.Copy(conn, conn)
		return errors.Join(err, conn.Close(), ln.Close())
	})
	var conn net.Conn
	in(t, "left", func() (err error) {
		conn, err = net.DialTimeout("tcp", addr, 5*time.Second)
		return err
	})
	g.Go(func() error {
		_, err := conn.Write(make([]byte, 1<<20))
		return errors.Join(err, conn.(*net.TCPConn).CloseWrite())
	})
	n, err := io.Copy(io.Discard, conn)
	if reset {
		_ = conn.(*net.TCPConn).SetLinger(0)
	}
	if err := errors.Join(err, conn.Close(), g.Wait()); err != nil || n != 1<<20 {
		t.Fatalf("%d bytes came back: %v", n, err)
	}
}
