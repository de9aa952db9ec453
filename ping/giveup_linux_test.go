package ping

import (
	"net/netip"
	"testing"
	"time"
)

// TestGiveUp gives up probes of which an answer would be awaited for an hour, again
// and again as long as they are on their way; those of others are of no matter.
func TestGiveUp(t *testing.T) {
	near, _ := wire(t)
	for family, addr := range lost {
		t.Run("IPv"+family, func(t *testing.T) {
			p, err := Open(near, Options{Dst: netip.MustParseAddr(addr), Count: 3, Interval: time.Millisecond, Timeout: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			done := make(chan Results)
			go func() {
				r, err := p.Run(t.Context(), func(Probe) {})
				if err != nil {
					t.Error(err)
				}
				done <- r
			}()
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case r := <-done:
					if r.Sent != 3 || r.Silent() != 3 {
						t.Errorf("%d sent, %d without answer, want 3", r.Sent, r.Silent())
					}
					return
				case <-tick.C:
					for seq := range uint32(4) {
						p.GiveUp(Key{Src: p.src, Dst: p.options.Dst, ID: p.id, Seq: seq})
						p.GiveUp(Key{Src: p.src, Dst: p.options.Dst, ID: p.id + 1, Seq: seq})
					}
				}
			}
		})
	}
}
