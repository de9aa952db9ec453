package load

import (
	"time"

	"golang.org/x/sys/unix"
)

// behind is how much a sender that was held up makes up for.
const behind = 2 * time.Millisecond

// pace says when the next packets are due.
type pace struct {
	rate  float64 // a second; 0: always
	start time.Time
	n     float64 // sent since
	over  func() bool
}

func newPace(rate float64, over func() bool) *pace {
	return &pace{rate: rate, start: time.Now(), over: over}
}

// wait returns how many packets, at most, are due, and waits for the first of them.
// It returns 0 if the load is over.
func (p *pace) wait(most int) int {
	if p.rate == 0 {
		return most
	}
	for {
		late := time.Since(p.start) - p.due(p.n)
		if late >= 0 {
			if late > behind {
				p.start = p.start.Add(late - behind)
				late = behind
			}
			return min(most, 1+int(late.Seconds()*p.rate))
		}
		if p.over() {
			return 0
		}
		// A sleep takes some 50 µs longer than it is asked for; what comes due
		// meanwhile goes at once.
		ts := unix.NsecToTimespec(int64(min(-late, patience)))
		_ = unix.Nanosleep(&ts, nil)
	}
}

// due returns when the nth packet is, since the start.
func (p *pace) due(n float64) time.Duration {
	return time.Duration(n / p.rate * float64(time.Second))
}

func (p *pace) sent(n int) { p.n += float64(n) }
