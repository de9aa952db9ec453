package rulings

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"
)

func TestParseVerdict(t *testing.T) {
	for code, want := range map[int64]string{
		0: "drop", 1: "accept", 2: "stolen", 7<<16 | 3: "queue", -1 << 16: "drop", 4: "repeat", 5: "stop", 6: "unknown",
		-1: "continue", -2: "break", -3: "jump", -4: "goto", -5: "return",
	} {
		if got := parseVerdict(uint32(code)).String(); got != want {
			t.Errorf("%d: %s, want %s", code, got, want)
		}
	}
}

func FuzzParseMessage(f *testing.F) {
	f.Add([]byte{2, 0, 0, 0, 8, 0, unix.NFTA_TRACE_TYPE, 0, 0, 0, 0, 1})
	f.Add([]byte{2, 0, 0, 0, 12, 0, unix.NFTA_TRACE_VERDICT, 0x80, 8, 0, unix.NFTA_VERDICT_CODE, 0, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseMessage(b)
		if err == nil {
			_ = m.verdict.String()
			m.headers.packet()
		}
	})
}

// armed is what a node's tables are.
const armed = `table ip T { # progname P
	flags owner

	chain prerouting {
		type filter hook prerouting priority -2147483648; policy accept;
		BPF meta nftrace set 1 accept
	}

	chain output {
		type filter hook output priority -2147483648; policy accept;
		BPF meta nftrace set 1 accept
	}
}
`

// TestArmed has nft print what we made.
func TestArmed(t *testing.T) {
	network(t)
	before := inNode(t, "a", "nft", "list", "ruleset")
	w := open(t, false, "a")
	tables := strings.TrimSpace(inNode(t, "a", "nft", "list", "tables"))
	name := regexp.MustCompile(tablePrefix + `lab-[0-9a-f]{8}`).FindString(tables)
	want := strings.ReplaceAll("table ip T\ntable ip6 T\ntable bridge T", "T", name)
	if diff := cmp.Diff(want, tables); diff != "" || name == "" {
		t.Error(diff)
	}
	text := inNode(t, "a", "nft", "list", "table", "ip", name)
	// nft prints the match only where it has a library of iptables' for it.
	text = regexp.MustCompile(`(?m)^\t\t.*meta`).ReplaceAllString(text, "\t\tBPF meta")
	text = regexp.MustCompile(`progname .*`).ReplaceAllString(strings.ReplaceAll(text, name, "T"), "progname P")
	if diff := cmp.Diff(armed, text); diff != "" {
		t.Error(diff)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(before, inNode(t, "a", "nft", "list", "ruleset")); diff != "" {
		t.Error(diff)
	}
}

// TestTarget has a rule that iptables-nft would make, as Docker's are.
func TestTarget(t *testing.T) {
	network(t)
	rules(t, "r", `table ip nat { chain POSTROUTING { type nat hook postrouting priority srcnat; }; }`)
	conn, err := nftables.New(nftables.WithNetNSFd(int(namespace(t, "r").Fd())))
	if err != nil {
		t.Fatal(err)
	}
	table := &nftables.Table{Name: "nat", Family: nftables.TableFamilyIPv4}
	conn.AddRule(&nftables.Rule{
		Table: table,
		Chain: &nftables.Chain{Name: "POSTROUTING", Table: table},
		Exprs: []expr.Any{&expr.Counter{}, &expr.Target{Name: "MASQUERADE", Info: &xt.NatIPv4MultiRangeCompat{{}}}},
	})
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	w := open(t, false, "r")
	send(t, "a", "10.0.2.2", tracedPort)
	rs := take(t, w, 1)
	// In what words depends on nft.
	if len(rs) != 1 || rs[0].Rule.Verdict != "accept" || !strings.Contains(strings.ToLower(rs[0].Rule.Text), "masquerade") {
		t.Errorf("%+v", rs)
	}
}

// TestBusyRules has a ruleset that always changes: what a rule says of a packet is
// told, and its text is right or not told.
func TestBusyRules(t *testing.T) {
	network(t)
	rules(t, "r", `table ip fw { chain flt { type filter hook forward priority 0; udp dport 7777 drop; }; }`)
	w := open(t, false, "r")
	const rounds = 20
	for i := range rounds {
		send(t, "a", "10.0.2.2", tracedPort)
		if i%2 == 0 {
			inNode(t, "r", "nft", "delete table ip fw; table ip fw { chain flt { type filter hook forward priority 0; ip daddr 10.0.2.2 drop; }; }")
		} else {
			inNode(t, "r", "nft", "delete table ip fw; table ip fw { chain flt { type filter hook forward priority 0; udp dport 7777 drop; }; }")
		}
	}
	rs := take(t, w, rounds)
	for i, r := range rs {
		want := []string{"udp dport 7777 drop", "ip daddr 10.0.2.2 drop"}[i%2]
		if r.Rule.Text != want && r.Rule.Text != "" || r.Rule.Verdict != "drop" {
			t.Errorf("%d: %+v", i, r.Rule)
		}
	}
	if len(rs) != rounds {
		t.Errorf("%d rulings", len(rs))
	}
}
