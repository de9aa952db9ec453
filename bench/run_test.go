package bench

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/bench/load"
	"github.com/nsbpf/nsbpf/bench/result"
)

// steady is a case that costs as much each time, and notes when it is measured.
func steady(name string, cost float64, order *[]string) Case {
	return Case{Name: name, Measure: func(context.Context) (Round, error) {
		*order = append(*order, name)
		return Round{Figures: []Figure{{"cpu", "ns/packet", result.Lower, true, cost}}}, nil
	}}
}

func TestTurns(t *testing.T) {
	var order []string
	cases := []Case{steady("a", 1, &order), steady("b", 2, &order), steady("c", 3, &order)}
	rounds, err := Turns(t.Context(), Schedule{Rounds: 2}, cases)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(order, ""); got != "abcbcacab" {
		t.Errorf("order %q", got)
	}
	for i, c := range cases {
		if len(rounds[i]) != 2 || rounds[i][0].Figures[0].Value != float64(i+1) {
			t.Errorf("%s: %v", c.Name, rounds[i])
		}
	}
}

// A round that did not end for all cases is kept for none.
func TestTurnsInterrupted(t *testing.T) {
	var order []string
	ctx, cancel := context.WithCancel(t.Context())
	cases := []Case{steady("a", 1, &order), steady("b", 2, &order)}
	progress := func(done, of int, _ string) {
		if of != 22 {
			t.Errorf("%d measurements", of)
		}
		if done == 7 {
			cancel()
		}
	}
	rounds, err := Turns(ctx, Schedule{Rounds: 10, Progress: progress}, cases)
	if !errors.Is(err, context.Canceled) || len(rounds[0]) != 2 || len(rounds[1]) != 2 {
		t.Errorf("%d and %d rounds, %v", len(rounds[0]), len(rounds[1]), err)
	}
}

func TestTurnsUntil(t *testing.T) {
	var order []string
	rounds, err := Turns(t.Context(), Schedule{Rounds: 100, Until: 0.03}, []Case{steady("a", 1, &order)})
	if err != nil || len(rounds[0]) != 6 { // the fewest that have an interval of 95 %
		t.Errorf("%d rounds, %v", len(rounds[0]), err)
	}
	x := 1.0
	wild := Case{Name: "wild", Measure: func(context.Context) (Round, error) {
		x = 3 - x
		return Round{Figures: []Figure{{"cpu", "ns/packet", result.Lower, true, x}}}, nil
	}}
	rounds, err = Turns(t.Context(), Schedule{Rounds: 20, Until: 0.03}, []Case{wild})
	if err != nil || len(rounds[0]) != 20 {
		t.Errorf("%d rounds, %v", len(rounds[0]), err)
	}
	if why := Wide([]Case{wild}, rounds, 0.03); len(why) != 1 || !strings.Contains(why[0], "wild: cpu is within ±33.3 % after 20 rounds, not ±3 %") {
		t.Errorf("%q", why)
	}
}

// outcome is of a load of which some was lost.
func outcome(received uint64) load.Outcome {
	h := hdrhistogram.New(1, int64(time.Minute), 3)
	for i := range int64(100) {
		_ = h.RecordValue(1000 * (i + 1))
	}
	return load.Outcome{
		Sent: load.Tally{Packets: 1000, Bytes: 64000}, Received: load.Tally{Packets: received, Bytes: received * 64},
		Lost:    []load.Loss{{Place: "socket", Node: "right", Reason: "SOCKET_RCVBUFF", Packets: 1000 - received}},
		Elapsed: time.Millisecond, SenderCPU: 950 * time.Microsecond, ReceiverCPU: 500 * time.Microsecond,
		Senders: []int{0}, Receivers: []int{1}, Latency: h, Notes: []string{"gro was switched on"},
	}
}

func TestFill(t *testing.T) {
	for _, mode := range load.Modes {
		spec := load.Spec{Mode: mode, Rate: 4e6}
		o := outcome(900)
		figures, err := FiguresOf(spec, o)
		if err != nil {
			t.Fatal(err)
		}
		rounds := []Round{{figures, &o, []result.HopCount{{Hop: "a:x out", Count: 1000}}}, {figures, &o, []result.HopCount{{Hop: "a:x out", Count: 1000}}}}
		d := &result.Document{Schema: result.Schema}
		cases := []Case{{Name: string(mode), Load: spec, Settings: SettingsOf(spec)}, {Name: "again", Load: spec}}
		Fill(d, cases, [][]Round{rounds, rounds}, "again")
		if err := d.Validate(); err != nil {
			t.Errorf("%s: %v", mode, err)
		}
		v := d.Variants[0]
		want := result.Account{
			Sent: 2000, Received: 1800, Seen: []result.HopCount{{Hop: "a:x out", Count: 2000}},
			Lost: []result.Loss{{Place: "socket of right (SOCKET_RCVBUFF)", Count: 200}},
		}
		if diff := cmp.Diff(want, v.Account); diff != "" || v.Account.Unexplained() != 0 {
			t.Errorf("%s: account (-want +got):\n%s", mode, diff)
		}
		if want := "the sender's CPU 0 is full (95 %), with what the path does for it; 10 % are lost, most in socket of right (SOCKET_RCVBUFF)"; v.Bottleneck != want {
			t.Errorf("%s: %s", mode, v.Bottleneck)
		}
		if want := "the generator sent 25 % of the rate that was asked for"; v.Limited != want {
			t.Errorf("%s: %q", mode, v.Limited)
		}
		if v.Latency.Count != 200 || len(d.Notes) != 1 || d.Noise.Of("cpu").Ratio != 1 || len(d.Variants) != 1 {
			t.Errorf("%s: %+v", mode, d)
		}
		gated := slices.ContainsFunc(v.Metrics, func(m result.Metric) bool { return m.Gate })
		if waits := mode == load.PPS || mode == load.SKB; gated == waits {
			t.Errorf("%s: gated %t", mode, gated)
		}
	}
}

func TestFiguresOfNothing(t *testing.T) {
	_, err := FiguresOf(load.Spec{Mode: load.UDP}, outcome(0))
	if err == nil || err.Error() != "nothing arrived of 1000 that were sent: lost in socket of right (SOCKET_RCVBUFF)" {
		t.Error(err)
	}
}

func TestBottleneck(t *testing.T) {
	same, receiver, idle := outcome(1000), outcome(1000), outcome(1000)
	same.Receivers = []int{0}
	receiver.SenderCPU, receiver.ReceiverCPU = receiver.ReceiverCPU, receiver.SenderCPU
	idle.SenderCPU = 0
	for _, tt := range []struct {
		o    load.Outcome
		want string
	}{
		{same, "CPU 0 is full: the sender takes 95 %, the receiver 50 %"},
		{receiver, "the receiver's CPU 1 is full (95 %)"},
		{idle, "no CPU of the load is full (sender 0 %, receiver 50 %)"},
	} {
		if got := bottleneck([]*load.Outcome{&tt.o}); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}
