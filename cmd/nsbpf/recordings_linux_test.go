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
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/internal/testenv"
)

// taped is a trace that is recorded, of what is sent in the lab nat.
type taped struct {
	name  string
	trace []string // its options and expression
	again []string // of these, what is no part of the recording
	do    []string // before, each "NODE: COMMAND"
	send  func(*testing.T)
	undo  []string // afterwards
	says  []string // what stdout has among other things
	shark bool     // tshark is to find all of it
}

// removeFilter takes the one filter away that there is.
const removeFilter = "nsbpf filter rm $(nsbpf filter ls | awk 'NR == 2 { print $1 }')"

func tapes() []taped {
	gate := "host: nft add table inet fw; nft add chain inet fw gate '{ type filter hook forward priority 0; }'; " +
		"nft add rule inet fw gate meta l4proto '{icmp, ipv6-icmp}' drop"
	noGate := []string{"host: nft delete table inet fw"}
	return []taped{
		{name: "text", send: sendMixed, says: []string{"snat", "ICMPv6 echo reply", "UDP", "lost 0\n"}, shark: true},
		{name: "JSON", trace: []string{"--json"}, again: []string{"--json"}, send: sendMixed, says: []string{`"schema":"nsbpf.ledger/1"`}},
		{name: "summary", trace: []string{"--summary"}, again: []string{"--summary"}, send: sendMixed, says: []string{"P99"}},
		{name: "quiet", trace: []string{"--quiet"}, again: []string{"--quiet"}, send: sendMixed, says: []string{" paths, "}},
		{name: "so many", trace: []string{"-c", "3"}, send: sendMixed, says: []string{"\n#3 "}},
		{name: "own words", trace: []string{"icmp and natted"}, send: sendMixed, says: []string{"snat", "as asked for"}},
		{name: "fingerprint", trace: []string{"--identity=fingerprint"}, send: sendMixed, says: []string{"by fingerprint"}},
		{name: "sample", trace: []string{"--sample=1/2"}, send: sendMixed, says: []string{"1 of 2 was traced"}},
		{
			name: "rules", trace: []string{"--explain"}, do: []string{gate}, send: sendMixed, undo: noGate,
			says: []string{"dropped in host, forward: rule `", "of table inet fw, chain gate", "snat"}, shark: true,
		},
		{
			name: "rules as JSON", trace: []string{"--explain", "--json", "dropped"}, again: []string{"--json"},
			do: []string{gate}, send: sendMixed, undo: noGate, says: []string{`"rulings":[`, `"passages":[`, `"conclusion":{`},
		},
		{name: "bytes", trace: []string{"--snap=100"}, send: sendMixed, says: []string{"UDP"}},
		{name: "segments again", send: sendAgainBesideFilter, says: []string{"attempt 2", "dropped in host:left-br0-veth", " in 4 segments"}, shark: true},
		{
			name: "filter", do: []string{"host: nsbpf filter add host:left-br0-veth drop 'icmp or icmp6-echo'"}, send: sendMixed,
			undo: []string{"host: " + removeFilter}, says: []string{"dropped by filter 2 at host:left-br0-veth in"}, shark: true,
		},
		{name: "flood", send: sendToNobody, says: []string{"ARP"}},
		{
			name: "late", send: sendToNoNeighbour, says: []string{"the end of #"},
			do:   []string{"host: ip route add 9.9.9.0/24 via 192.0.2.99; sysctl -qw net.ipv4.neigh.eth0.retrans_time_ms=350"},
			undo: []string{"host: ip route del 9.9.9.0/24"},
		},
	}
}

// TestRecordings records traces, and replays them as somebody who may do nothing:
// both say the same, in either format and in the other that it is copied to.
func TestRecordings(t *testing.T) {
	testenv.Root(t)
	upLab(t, "nat", "--wan")
	warmUp(t)
	p := newPlayer(t)
	formats := []string{".ndjson", ".pcapng"}
	for i, c := range tapes() {
		t.Run(c.name, func(t *testing.T) {
			p.t = t
			file, copied, again := p.path("a"+formats[i%2]), p.path("b"+formats[1-i%2]), p.path("c"+formats[i%2])
			want := c.record(t, file)
			for _, says := range c.says {
				if !strings.Contains(want, says) {
					t.Errorf("the trace does not say %q:\n%s", says, want)
				}
			}
			p.same(want, append([]string{file}, c.again...)...)
			testenv.Run(t, "nsbpf", "replay", file, "-q", "-w", copied)
			p.same(want, append([]string{copied}, c.again...)...)
			testenv.Run(t, "nsbpf", "replay", copied, "-q", "-w", again)
			p.same(want, append([]string{again}, c.again...)...)
			if c.shark {
				p.checkShark(map[bool]string{true: file, false: copied}[strings.HasSuffix(file, ".pcapng")])
			}
		})
	}
}

// What a replay chooses is asked of all that was recorded, and what a recording of
// a replay shows is what the replay did.
func TestReplayOtherwise(t *testing.T) {
	testenv.Root(t)
	upLab(t, "nat", "--wan")
	warmUp(t)
	p := newPlayer(t)
	file, copied := p.path("a.pcapng"), p.path("b.ndjson")
	c := taped{trace: []string{"natted"}, send: sendMixed}
	natted := c.record(t, file)
	all, _, _ := p.replay(file, "all")
	if all == natted {
		t.Error("what was recorded and not shown is not there")
	}
	const toNAT = "icmp[icmptype] == icmp-echoreply and dst host 192.0.2.2"
	if out, _, _ := p.replay(file, toNAT); strings.Count(out, "snat-back") != 1 || !strings.Contains(out, "of them 1 as asked for") {
		t.Errorf("of the reply that is translated back there is to be one path:\n%s", out)
	}
	for _, args := range [][]string{{"all"}, {toNAT}, {"--identity=fingerprint"}, {"-c2"}, {"--for=1ns"}} {
		want, talk, code := p.replay(append([]string{file}, args...)...)
		if code != 0 || want == natted {
			t.Fatalf("replay %q: exit code %d, says the same: %t\n%s", args, code, want == natted, talk)
		}
		testenv.Run(t, "nsbpf", append([]string{"replay", file, "-q", "-w", copied}, args...)...)
		p.same(want, copied)
	}
	if _, talk, code := p.replay(file, "-w", p.path("c.ndjson")); code != 1 || !strings.Contains(talk, "c.ndjson: permission denied") {
		t.Errorf("to a folder that is not the user's: exit code %d\n%s", code, talk)
	}
}

// What was seen before a trace was killed is in its recording.
func TestKilled(t *testing.T) {
	testenv.Root(t)
	upLab(t, "nat", "--wan")
	p := newPlayer(t)
	for _, file := range []string{p.path("a.ndjson"), p.path("a.pcapng")} {
		tr := startTrace(t, "trace", "nat", "icmp", "-w", file)
		pingLeft(t, outside.String())
		var out string
		for range 200 { // until it is on the disk
			if out, _, _ = p.replay(file); strings.Count(out, "delivered, ") == 2 {
				break
			}
		}
		if _, err := tr.end(os.Kill); err == nil {
			t.Error("it was not killed")
		}
		again, talk, code := p.replay(file)
		if code != 0 || again != out || !strings.HasSuffix(out, "2 paths, 2 delivered · the recording has no end: what was seen and lost is not known\n") {
			t.Errorf("exit code %d, before %s\nand after%s\n%s", code, out, again, talk)
		}
		if _, talk, code := p.replay(file, "--strict"); code != 1 || !strings.HasSuffix(talk, "nsbpf: the recording has no end: what was lost is not known\n") {
			t.Errorf("under --strict exit code %d\n%s", code, talk)
		}
	}
}

// A recording that goes on in other files is replayed from whichever is there.
func TestRotated(t *testing.T) {
	testenv.Root(t)
	upLab(t, "nat", "--wan")
	p := newPlayer(t)
	for _, ext := range []string{".ndjson", ".pcapng"} {
		for _, most := range []int{0, 2} {
			dir := p.path(fmt.Sprint(ext[1:], most))
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, "x"+ext)
			c := taped{trace: []string{"--rotate=100KB", "--files", fmt.Sprint(most)}, send: func(t *testing.T) {
				testenv.Run(t, "nsbpf", "exec", "left", "--", "ping", "-nqi0.002", "-c100", outside.String())
			}}
			want := c.record(t, file)
			names, err := filepath.Glob(filepath.Join(dir, "x*"))
			if err != nil {
				t.Fatal(err)
			}
			if most == 0 {
				p.t = t
				p.same(want, file)
			}
			if len(names) < 2 || most > 0 && len(names) != most {
				t.Errorf("there are files %q", names)
			}
			for _, name := range []string{names[0], names[len(names)-1]} {
				p.alone(name)
			}
		}
	}
}

// alone replays a file without those that follow it.
func (p *player) alone(file string) {
	p.t.Helper()
	alone := p.path("alone" + filepath.Ext(file))
	b, err := os.ReadFile(file)
	if err := errors.Join(err, os.WriteFile(alone, b, 0o644)); err != nil {
		p.t.Fatal(err)
	}
	out, talk, code := p.replay(alone)
	if code != 0 || !strings.Contains(out, " paths, ") {
		p.t.Errorf("%s alone: exit code %d\n%s%s", file, code, out, talk)
	}
	if strings.Contains(out, "no end") != strings.Contains(talk, "which is not there") {
		p.t.Errorf("%s alone is not said to go on, or not to have an end:\n%s%s", file, out, talk)
	}
	if filepath.Ext(file) == ".pcapng" {
		testenv.Run(p.t, "tshark", "-nr", file)
	}
}

// record returns the stdout of the trace.
func (c *taped) record(t *testing.T, file string) string {
	t.Helper()
	run := func(lines []string) {
		for _, line := range lines {
			node, command, _ := strings.Cut(line, ": ")
			testenv.Run(t, "nsbpf", "exec", "nat/"+node, "--", "sh", "-ec", command)
		}
	}
	run(c.do)
	tr := startTrace(t, append([]string{"trace", "nat", "-w", file}, c.trace...)...)
	c.send(t)
	out, err := tr.interrupt()
	run(c.undo)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// interrupt ends a trace that may have ended.
func (b *background) interrupt() (stdout string, err error) {
	if err := b.cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return "", err
	}
	talk, readErr := io.ReadAll(b.stderr)
	b.t.Logf("%s", talk)
	return b.stdout.String(), errors.Join(readErr, b.cmd.Wait())
}

// sendMixed sends of all some, of both families and to both sides.
func sendMixed(t *testing.T) {
	for six := range wanAddrs {
		pinging()(t, six == 1)
		pingingTo("172.16.16.20", "fd16::20")(t, six == 1)
		udp(2)(t, six == 1)
		tcp(t, six == 1)
	}
}

func sendToNobody(t *testing.T) { tried(t, "left", "ping", "-nqc1", "-W0.3", "172.16.16.99") }

// sendToNoNeighbour returns when the kernel has given up on who does not answer.
func sendToNoNeighbour(t *testing.T) { tried(t, "left", "ping", "-nqc1", "-W5", "9.9.9.9") }

// sendAgainBesideFilter has a filter drop what TCP sends in large packets, until it
// is taken away while the trace runs.
func sendAgainBesideFilter(t *testing.T) {
	var ln net.Listener
	in(t, "right", func() (err error) {
		ln, err = net.Listen("tcp", "172.16.16.20:0")
		return err
	})
	defer ln.Close()
	var conn net.Conn
	in(t, "left", func() (err error) {
		conn, err = net.Dial("tcp", ln.Addr().String())
		return err
	})
	far, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	testenv.Run(t, "nsbpf", "filter", "add", "host:left-br0-veth", "drop", "tcp and greater 500")
	if _, err := conn.Write(make([]byte, 8000)); err != nil { // which goes out at once
		t.Fatal(err)
	}
	testenv.Run(t, "sh", "-ec", removeFilter)
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, far); n != 8000 || err != nil {
		t.Fatalf("%d bytes came: %v", n, err)
	}
}

// player replays as somebody without any privilege.
type player struct {
	t    *testing.T
	dir  string // which all may read
	tool string
}

func newPlayer(t *testing.T) *player {
	t.Helper()
	dir, err := os.MkdirTemp("", "recordings")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &player{t: t, dir: dir, tool: filepath.Join(dir, "nsbpf")}
	b, err := os.ReadFile(self)
	if err := errors.Join(err, os.Chmod(dir, 0o755), os.WriteFile(p.tool, b, 0o755)); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *player) path(name string) string { return filepath.Join(p.dir, name) }

// replay returns what `nsbpf replay` says and its exit code.
func (p *player) replay(args ...string) (stdout, stderr string, code int) {
	p.t.Helper()
	const nobody = 65534
	cmd := exec.Command(p.tool, append([]string{"replay"}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	var out, talk bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &talk
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
	return out.String(), talk.String(), cmd.ProcessState.ExitCode()
}

// same checks that a replay says what the trace said.
func (p *player) same(want string, args ...string) {
	p.t.Helper()
	got, talk, code := p.replay(args...)
	if code != 0 {
		p.t.Fatalf("replay %q: exit code %d\n%s", args, code, talk)
	}
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n")); diff != "" {
		p.t.Errorf("replay %q (-trace +replay):\n%.4000s", args, diff)
	}
}

// checkShark checks that tshark finds in a capture file each packet at all its hops,
// and finds nothing wrong with them.
func (p *player) checkShark(file string) {
	t := p.t
	t.Helper()
	var want []string
	out, _, _ := p.replay(file, "--json")
	comments := 0
	for dec := json.NewDecoder(strings.NewReader(out)); dec.More(); {
		var path struct {
			Schema     string
			Path       uint64
			Steps      []struct{ Hop string }
			Conclusion *struct{ Sentence string }
		}
		if err := dec.Decode(&path); err != nil {
			t.Fatal(err)
		}
		for _, st := range path.Steps {
			want = append(want, fmt.Sprintf("%d\t%s", path.Path, st.Hop))
		}
		if path.Conclusion != nil && len(path.Steps) > 0 {
			comments++
		}
	}
	shark := func(filter string, fields ...string) []string {
		args := []string{"-n", "-r", file, "-o", "ip.check_checksum:TRUE", "-Y", filter, "-T", "fields"}
		for _, f := range fields {
			args = append(args, "-e", f)
		}
		return strings.Split(strings.TrimSuffix(testenv.Run(t, "tshark", args...), "\n"), "\n")
	}
	got := shark("frame", "frame.packet_id", "frame.interface_name")
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("packets at hops (-replay +tshark):\n%.2000s", diff)
	}
	if bad := shark(`_ws.malformed || ip.checksum.status == "Bad"`, "frame.number"); bad[0] != "" {
		t.Errorf("tshark finds %d packets malformed: %q", len(bad), bad)
	}
	if got := shark("frame.comment", "frame.comment"); comments > 0 && len(got) != comments {
		t.Errorf("%d explanations are in the file, want %d", len(got), comments)
	}
	if about := testenv.Run(t, "capinfos", file); !strings.Contains(about, "Name = host:left-br0-veth in\n") {
		t.Errorf("capinfos does not name the hops:\n%s", about)
	}
}
