package bench

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/nsbpf/nsbpf/bench/load"
)

// TCP is one stream from a socket in from to addr in to, as fast as it goes.
// Rates are Gbit/s of payload; CPU is per kilobyte.
func TCP(from, to *os.File, addr netip.Addr) Load {
	return Load{Name: "tcp", Unit: "Gbit/s", Run: func(ctx context.Context, d time.Duration) (Sample, error) {
		o, err := load.Run(ctx, spec(load.TCP, from, to, addr, d))
		if err != nil {
			return Sample{}, err
		}
		return sample(o, o.BitRate()/1e9, float64(o.Received.Bytes)/1000)
	}}
}

// UDP sends datagrams in frames of 64 bytes from a socket in from to addr in to,
// as fast as it goes. Rates are million packets a second that came to to's
// socket; CPU is per such packet. What the socket drops because nobody reads as
// fast came there too: it depends on which CPU has time left, not on the path.
func UDP(from, to *os.File, addr netip.Addr) Load {
	return Load{Name: "udp64", Unit: "Mpps", Run: func(ctx context.Context, d time.Duration) (Sample, error) {
		o, err := load.Run(ctx, spec(load.UDP, from, to, addr, d))
		if err != nil {
			return Sample{}, err
		}
		n := float64(o.Received.Packets)
		for _, l := range o.Lost {
			if l.Place == "socket" && l.Node == receiver {
				n += float64(l.Packets)
			}
		}
		return sample(o, n/o.Elapsed.Seconds()/1e6, n)
	}}
}

const receiver = "the receiver"

func spec(mode load.Mode, from, to *os.File, addr netip.Addr, d time.Duration) load.Spec {
	return load.Spec{
		Mode:     mode,
		From:     load.Place{Node: "the sender", Netns: from},
		To:       load.Place{Node: receiver, Netns: to, Addr: addr},
		Duration: d,
	}
}

// sample is n units that arrived at a rate.
func sample(o load.Outcome, rate, n float64) (Sample, error) {
	if n == 0 {
		return Sample{}, fmt.Errorf("nothing arrived")
	}
	return Sample{Rate: rate, CPU: float64(o.BusyCPU.Nanoseconds()) / n}, nil
}
