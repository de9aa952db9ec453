package assert

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/ping"
	"github.com/nsbpf/nsbpf/trace"
)

// Judge says whether a holds of what became of its packets, in a lab with hops.
func Judge(a *Assertion, o Outcome, hops []hop.Hop) Result {
	j := judge{Result: Result{Assertion: a, Outcome: o, Hops: hops, Tries: 1}, names: make(map[hop.ID]hop.Hop, len(hops))}
	for _, h := range hops {
		j.names[h.ID] = h
	}
	if a.Blocked {
		j.blocked()
	} else {
		j.through()
	}
	j.times("latency", a.Latency, j.latencies)
	j.times("rtt", a.RTT, j.roundTrips)
	for i := range o.Probes {
		p := &o.Probes[i]
		if a.Blocked && j.came(p) || !a.Blocked && !j.got(p) {
			continue // that was said
		}
		if j.via(i, p) && j.from(i, p) && j.ended(i, p) {
			continue
		}
		break // one packet is enough to tell
	}
	return j.Result
}

type judge struct {
	Result
	names map[hop.ID]hop.Hop
}

func (j *judge) fail(what string, probe int, format string, args ...any) bool {
	j.Failures = append(j.Failures, Failure{what, fmt.Sprintf(format, args...), probe})
	return false
}

// say adds to the summary.
func (j *judge) say(text string) {
	if j.Summary != "" {
		text = j.Summary + " · " + text
	}
	j.Summary = text
}

// through judges that packets get through.
func (j *judge) through() {
	if j.Unsent != "" {
		j.fail("packet", -1, "%s", j.Unsent)
		return
	}
	lost, first := 0, -1
	for i := range j.Probes {
		if !j.got(&j.Probes[i]) {
			if lost++; first < 0 {
				first = i
			}
		}
	}
	n := len(j.Probes)
	share := 100 * float64(lost) / float64(max(n, 1))
	switch {
	case n == 0:
		j.fail("packet", -1, "nothing was sent")
	case j.Loss != nil:
		text := fmt.Sprintf("%.3g%% of %d lost", share, n)
		j.say(text)
		if !j.Loss.holds(share) {
			j.fail("loss", first, "want %s, is %s%s", j.Loss, text, j.because(first))
		} else if lost == n {
			j.fail("packet", first, "%s", j.fate(&j.Probes[first]))
		}
	case lost > 0 && n == 1:
		j.fail("packet", first, "%s", j.fate(&j.Probes[first]))
	case lost > 0:
		j.fail("packet", first, "%d of %d lost%s", lost, n, j.because(first))
	case n == 1:
		j.say(j.fate(&j.Probes[0]))
	default:
		j.say(fmt.Sprintf("all %d got through", n))
	}
}

func (j *judge) because(probe int) string {
	if probe < 0 {
		return ""
	}
	return ", one " + j.fate(&j.Probes[probe])
}

// got says whether a packet got through, and with it what has to come back: to TCP
// a SYN-ACK, to an echo request its reply, to UDP nothing, unless it was sent.
func (j *judge) got(p *Probe) bool {
	switch {
	case p.Err != nil:
		return false
	case p.Answer != nil:
		return slices.Contains([]ping.Kind{ping.EchoReply, ping.Datagram, ping.SYNACK}, p.Answer.Kind)
	case p.Key.Proto != ping.UDP || p.Forward == nil:
		return false
	}
	return p.Forward.Verdict == trace.Delivered && (p.Back == nil || !p.Back.Lost())
}

// unwelcome are the codes of conclusions about packets that came to their
// destination, where nobody had use for them.
var unwelcome = []string{"no-socket", "no-connection", "socket-full", "socket-filter", "listen-overflow"}

// came says whether a packet came to its destination's transport layer, wanted or
// not. A reset may be a firewall's, so the Path is what counts.
func (j *judge) came(p *Probe) bool {
	f := p.Forward
	switch {
	case f == nil || f.Verdict == trace.LeftLab:
		return p.Answer != nil && p.Answer.Reached(p.Key.Dst)
	case f.Lost():
		return p.ForwardWhy != nil && slices.Contains(unwelcome, p.ForwardWhy.Code)
	}
	return f.Verdict == trace.Delivered
}

// blocked judges that no packet gets through.
func (j *judge) blocked() {
	if j.Unsent != "" {
		j.say(j.Unsent)
		if j.Dropped != nil {
			j.fail("dropped", -1, "%s", j.Unsent)
		}
		return
	}
	came, first := 0, -1
	for i := range j.Probes {
		if j.came(&j.Probes[i]) {
			if came++; first < 0 {
				first = i
			}
		}
	}
	switch n := len(j.Probes); {
	case n == 0:
		j.fail("packet", -1, "nothing was sent")
	case came == 0:
		j.say(j.fate(&j.Probes[0]))
	case n == 1:
		j.fail("packet", first, "it came to its destination: %s", j.fate(&j.Probes[first]))
	default:
		j.fail("packet", first, "%d of %d came to their destination: %s", came, n, j.fate(&j.Probes[first]))
	}
}

// fate says what became of a packet.
func (j *judge) fate(p *Probe) string {
	lost, c := p.Lost()
	a := p.Answer
	switch {
	case p.Err != nil:
		return "not sent: " + p.Err.Error()
	case a != nil && (c == nil || j.got(p)):
		kind, means, _ := strings.Cut(p.Said, ", ")
		text := fmt.Sprintf("answered by %s from %s in %s", kind, a.From, rounded(a.RTT))
		if means != "" {
			text += ", " + means
		}
		return text
	case c != nil && lost == p.Back:
		return "its answer: " + c.Sentence
	case c != nil:
		return c.Sentence
	case lost != nil:
		return j.last(lost)
	}
	return "no answer, and its way is not known"
}

// last says how a Path ended of which no conclusion was drawn.
func (j *judge) last(p *trace.Path) string {
	at, seen := j.names[p.Steps[p.End].HopID()]
	switch {
	case p.DroppedBy != 0:
		return fmt.Sprintf("dropped by filter %d at %s", p.DroppedBy, at)
	case p.Verdict == trace.Delivered:
		return "delivered to " + at.Node
	case p.Verdict == trace.LeftLab:
		return fmt.Sprintf("left the lab by %s, and was not answered", at.Place())
	case !seen:
		return "lost before the first hop"
	}
	return "last seen at " + at.String()
}
