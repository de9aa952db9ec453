package rulings

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fakeRules is a ruleset in which rules are what their handles say.
type fakeRules struct{}

func (fakeRules) hook(p place) string { return "hook of " + p.chain }

func (fakeRules) act(_ place, handle uint64) act {
	return map[uint64]act{7: actReject, 8: actTranslate}[handle]
}

func (fakeRules) text(p place, handle uint64) string { return fmt.Sprintf("%s %d", p.chain, handle) }

// said is a message of nft's trace.
type said struct {
	packet  uint32
	chain   string
	kind    kind
	handle  uint64
	verdict verdict
	first   bool // with the packet's headers: port is packet's number
}

func (s said) message() *message {
	m := &message{place: place{2, "fw", s.chain}, id: s.packet, kind: s.kind, handle: s.handle, verdict: s.verdict}
	if s.chain == "ours" {
		m.table = tablePrefix + "other-0"
	}
	if s.first {
		m.headers = headers{network: []byte{0: 0x45, 9: 17, 19: 1}, transport: []byte{3: byte(s.packet), 7: 0}}
	}
	return m
}

func TestWalk(t *testing.T) {
	const jump, goOn, back = -3, -1, -5
	script := []said{
		{1, "ours", kindRule, 1, accept, true},
		{1, "pre", kindRule, 8, accept, true},     // translates
		{1, "fwd", kindRule, 2, jump, true},       // and the drop has no headers
		{2, "fwd", kindRule, 2, jump, true},       // another packet meanwhile
		{2, "some", kindRule, 3, back, false},     //
		{1, "some", kindRule, 4, drop, false},     // of 1
		{2, "fwd", kindRule, 0, goOn, false},      // the chain's end
		{2, "fwd", kindPolicy, 0, drop, false},    // of 2
		{2, "fwd", kindPolicy, 0, drop, false},    // its headers were lost
		{3, "in", kindRule, 7, drop, true},        // rejects
		{4, "in", kindRule, 5, accept, true},      //
		{5, "in", kindRule, 5, queue, true},       //
		{6, "in", kindPolicy, 0, accept, true},    //
		{7, "in", kindRule, 5, verdict(99), true}, // of a later kernel
	}
	decisions := []string{
		"1 hook of pre: ip fw pre 8 [pre 8] accept",
		"1 hook of fwd: ip fw some 4 [some 4] drop",
		"2 hook of fwd: ip fw fwd 0 [policy drop] drop",
		"3 hook of in: ip fw in 7 [in 7] reject",
		"5 hook of in: ip fw in 5 [in 5] queue",
		"7 hook of in: ip fw in 5 [in 5] unknown",
	}
	all := []string{
		decisions[0],
		"1 hook of fwd: ip fw fwd 2 [fwd 2] jump",
		"2 hook of fwd: ip fw fwd 2 [fwd 2] jump",
		"2 hook of fwd: ip fw some 3 [some 3] return",
		decisions[1], decisions[2], decisions[3],
		"4 hook of in: ip fw in 5 [in 5] accept",
		decisions[4],
		"6 hook of in: ip fw in 0 [policy accept] accept",
		decisions[5],
	}
	for wantAll, want := range map[bool][]string{false: decisions, true: all} {
		w := walker{all: wantAll, rules: fakeRules{}, open: make(map[walkID]walk)}
		var got []string
		for i, s := range script {
			r, ok := w.add(s.message(), uint64(i))
			if !ok {
				continue
			}
			if r.TimeNS != uint64(i) || !r.HasPorts() {
				t.Errorf("ruling %+v", r)
			}
			got = append(got, fmt.Sprintf("%d %s: %s %s %s %d [%s] %s",
				r.Packet.Dport, r.Hook, r.Rule.Family, r.Rule.Table, r.Rule.Chain, r.Rule.Handle, r.Rule.Text, r.Rule.Verdict))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("all %v: %s", wantAll, diff)
		}
		if len(w.open) != 0 {
			t.Errorf("%d packets are kept", len(w.open))
		}
	}
}

// TestWalkBounded has packets of which the last message never comes.
func TestWalkBounded(t *testing.T) {
	w := walker{rules: fakeRules{}, open: make(map[walkID]walk)}
	for i := range uint32(3 * mostWalks) {
		w.add(said{i, "fwd", kindRule, 2, -3, true}.message(), 0)
		if len(w.open) > mostWalks {
			t.Fatalf("%d packets are kept", len(w.open))
		}
	}
}
