package trace

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/collector"
)

// What of a sender's segments is sent again: each line is flags, the sequence
// number and the length, and what is to come of it: the attempt, and the line of
// the attempt before.
func TestAttempts(t *testing.T) {
	const wrap = 1<<32 - 1000
	for name, tt := range map[string]struct{ sent, want string }{
		"in order":           {"S 99 0, . 100 0, P 100 50, P 150 50", "1 1 1 1"},
		"syn":                {"S 99 0, S 99 0, S 99 0", "1 2<1 3<2"},
		"acknowledgements":   {"P 100 50, . 150 0, . 150 0, . 150 0", "1 1 1 1"},
		"data":               {"P 100 50, P 150 50, P 150 50, P 150 50, P 200 50", "1 1 2<2 3<3 1"},
		"fin":                {"P 100 50, F 150 0, F 150 0", "1 1 2<2"},
		"data and fin":       {"P 100 50, FP 150 10, FP 150 10, F 160 0", "1 1 2<2 3<3"},
		"keep-alives":        {"P 100 50, . 149 1, . 149 1, . 149 0, P 150 50", "1 1 1 1 1"},
		"one byte":           {"P 100 1, P 101 1, P 101 1", "1 1 2<2"},
		"reset":              {"P 100 50, R 100 0, R 150 0", "1 1 1"},
		"a gap is filled":    {"P 100 50, P 200 50, P 150 50, P 150 50", "1 1 1 2<3"},
		"before all":         {"P 1000 50, P 900 50, P 900 50", "1 1 2<2"},
		"ports used again":   {"S 99 0, P 100 50, S 5000 0, P 5001 50, S 120 0, P 121 50", "1 1 1 1 1 1"},
		"wraps":              {fmt.Sprintf("P %d 500, P %d 1000, P 500 50, P %d 1000, P 0 10", wrap, wrap+500, wrap+500), "1 1 1 2<2 3<4"},
		"other boundaries":   {"P 100 50, P 150 50, P 200 50, P 120 100, P 120 300", "1 1 1 2<3 3<4"},
		"old and new":        {"P 100 50, P 100 100, P 200 50", "1 2<1 1"},
		"after many others":  {"P 100 50, " + strings.TrimSuffix(upwards(150, 20), ", ") + ", P 100 50, P 100 50", "1" + strings.Repeat(" 1", 20) + " 2 3<22"},
		"too many gaps":      {"P 0 10, P 100 10, P 200 10, P 300 10, P 400 10, P 0 10", "1 1 1 1 1 1"},
		"a window far ahead": {"P 0 10, P 1500000000 10, P 3000000000 10, P 3000000000 10", "1 1 1 2<3"},
	} {
		ss := senders{recent: map[sender]*sent{}, most: 100, forgot: new(uint64)}
		var got []string
		for i, line := range strings.Split(tt.sent, ", ") {
			n, again := ss.attempt(segmentLine(t, line), uint64(i+1))
			x := fmt.Sprint(n)
			if again > 0 {
				x += fmt.Sprintf("<%d", again)
			}
			got = append(got, x)
		}
		if d := cmp.Diff(tt.want, strings.Join(got, " ")); d != "" {
			t.Errorf("%s: %s\n%s", name, tt.sent, d)
		}
	}
}

func upwards(seq, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "P %d 50, ", seq+50*i)
	}
	return b.String()
}

func segmentLine(t *testing.T, line string) *collector.Sighting {
	var flags string
	var seq, n uint32
	if _, err := fmt.Sscan(line, &flags, &seq, &n); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	s := newSim(natLab(), 1).tcp(1, "10.0.0.1", "10.0.0.2", seq)
	s.Packet.TCPFlags = 0x10
	for _, f := range flags {
		s.Packet.TCPFlags |= map[rune]uint8{'S': flagSYN, 'F': flagFIN, 'R': flagRST, 'P': flagPSH}[f]
	}
	s.Packet.Len = uint32(s.Packet.PayloadOff) + n
	return &s
}

// Senders are bounded; those that were heard of last are not forgotten.
func TestSendersAreBounded(t *testing.T) {
	forgot := uint64(0)
	ss := senders{recent: map[sender]*sent{}, most: 10, forgot: &forgot}
	sim := newSim(natLab(), 1)
	for i := range 100 {
		s := sim.tcp(uint16(i), "10.0.0.1", "10.0.0.2", 1)
		ss.attempt(&s, 1)
		if n := len(ss.recent) + len(ss.older); n > 10 {
			t.Fatalf("%d senders are remembered, want at most 10", n)
		}
		again := sim.tcp(0, "10.0.0.1", "10.0.0.2", 1)
		if n, _ := ss.attempt(&again, 1); i > 0 && n < 2 {
			t.Fatalf("sender 0 was forgotten after %d others", i)
		}
	}
	if forgot == 0 || forgot+uint64(len(ss.recent)+len(ss.older)) != 100 {
		t.Errorf("forgot %d, remembers %d, of 100", forgot, len(ss.recent)+len(ss.older))
	}
}
