package bench

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/nsbpf/nsbpf/bench/load"
)

// simulated is a path that carries so many packets a second, and a generator that
// makes no more than most.
func simulated(carries, most float64, tries *int) func(context.Context, float64) (load.Outcome, error) {
	return func(_ context.Context, rate float64) (load.Outcome, error) {
		*tries++
		sent := min(rate, most)
		return load.Outcome{
			Sent: load.Tally{Packets: uint64(sent)}, Received: load.Tally{Packets: uint64(min(sent, carries))},
			Elapsed: time.Second,
		}, nil
	}
}

func TestSearch(t *testing.T) {
	for _, tt := range []struct {
		carries, most, flat, want float64
		limited                   bool
	}{
		{4e5, 1e9, 1e6, 4e5, false},
		{1e6, 1e9, 1e6, 1e6, false}, // nothing is lost flat out
		{1e4, 1e9, 1e6, 1e4, false},
		{0, 1e9, 1e6, 0, false},
		{2e6, 7e5, 1e6, 7e5 / reached, true},
	} {
		tries := 0
		s := Search{Most: tt.flat, Trials: 2, Try: simulated(tt.carries, tt.most, &tries)}
		best, curve, limited, err := s.Run(t.Context())
		if err != nil || math.Abs(best-tt.want) > 0.01*tt.flat || best > tt.want+1 {
			t.Errorf("%+v: %g, %v", tt, best, err)
		}
		if (limited != "") != tt.limited {
			t.Errorf("%+v: limited %q", tt, limited)
		}
		if len(curve) == 0 || tries > 3*10 || curve[0].Offered != tt.flat {
			t.Errorf("%+v: %d tries, curve %v", tt, tries, curve)
		}
		for _, p := range curve {
			if p.Offered > tt.carries && !tt.limited && p.Loss == 0 {
				t.Errorf("%+v: nothing lost at %+v", tt, p)
			}
		}
	}
}

// A rate passes only if all its trials do.
func TestSearchRepeats(t *testing.T) {
	calls := 0
	s := Search{Most: 1000, Resolution: 0.4, Try: func(_ context.Context, rate float64) (load.Outcome, error) {
		calls++
		o := load.Outcome{Sent: load.Tally{Packets: uint64(rate)}, Received: load.Tally{Packets: uint64(rate)}, Elapsed: time.Second}
		if rate > 600 && calls == 3 {
			o.Received.Packets--
		}
		return o, nil
	}}
	best, curve, _, err := s.Run(t.Context())
	if err != nil || best != 750 || calls != 9 || curve[0].Loss == 0 {
		t.Errorf("%g after %d calls, %v, %v", best, calls, curve, err)
	}
	// One that was too slow once is tried again.
	calls = 0
	s = Search{Most: 1000, Try: func(_ context.Context, rate float64) (load.Outcome, error) {
		calls++
		o := load.Outcome{Sent: load.Tally{Packets: uint64(rate)}, Received: load.Tally{Packets: uint64(rate)}, Elapsed: time.Second}
		if calls == 2 {
			o.Elapsed *= 2
		}
		return o, nil
	}}
	if best, _, limited, err := s.Run(t.Context()); err != nil || best != 1000 || calls != 4 || limited != "" {
		t.Errorf("%g after %d calls, %q, %v", best, calls, limited, err)
	}
	s.Try = func(context.Context, float64) (load.Outcome, error) { return load.Outcome{}, errors.New("gone") }
	if _, _, _, err := s.Run(t.Context()); err == nil {
		t.Error("no error")
	}
}
