package main

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/nsbpf/nsbpf/internal/testenv"
)

// trial is how probes are sent through a lab and traced.
type trial struct {
	name   string
	probes int           // of each flow
	pace   pace          // of each flow
	tcp    bool          // beside them
	ring   int           // bytes; 0: as `nsbpf trace` has it
	stall  time.Duration // so long the trace's reader stands still
	deaf   bool          // sockets are small, and nobody reads them until all are sent
}

const (
	tiny  = 4 << 10
	roomy = 128 << 20
)

var trials = []trial{
	{name: "paced", probes: 300, pace: pace(time.Millisecond)},
	{name: "flat out", probes: 2000, ring: roomy},
	{name: "flat out beside TCP", probes: 1000, tcp: true, ring: roomy},
	{name: "deaf sockets", probes: 300, ring: roomy, deaf: true},
	{name: "stopped reader", probes: 500, pace: pace(time.Millisecond), stall: 300 * time.Millisecond},
	{name: "tiny ring and stopped reader", probes: 1500, pace: pace(time.Millisecond), ring: tiny, stall: time.Second},
	{name: "saturated ring", probes: 1000, tcp: true, ring: 256 << 10},
}

// proving is a lab on which trials are made.
type proving struct {
	name    string
	up      []string   // the arguments of `nsbpf up`
	filters [][]string // and of `nsbpf filter add`
	flows   []flow
	xdp     bool // native XDP makes new packets of some
}

const doomedPort = 7666

var (
	left4, left6   = netip.MustParseAddr("172.16.16.10"), netip.MustParseAddr("fd16::10")
	right4, right6 = netip.MustParseAddr("172.16.16.20"), netip.MustParseAddr("fd16::20")
	outside6       = netip.MustParseAddr("2001:4860:4860::8888")
)

func provings() []proving {
	pair := []string{"left:left-veth out", "right:right-veth in"}
	across := []string{"left:left-veth out", "host:left-br0-veth in", "host:right-br0-veth out", "right:right-veth in"}
	leftOut := []string{"left:left-veth out", "host:left-br0-veth in", "host:br0 in", "host:eth0 out", "wan:eth0 in"}
	rightOut := []string{"right:right-veth out", "host:right-br0-veth in", "host:br0 in", "host:eth0 out", "wan:eth0 in"}
	doomed := fmt.Sprintf("udp src port %d", doomedPort)
	return []proving{
		{name: "pair", up: []string{"pair"}, flows: between(pair)},
		{
			name: "bridge", up: []string{"bridge", "--isolated", "--hook=xdp"}, xdp: true,
			filters: [][]string{{"right:right-veth", "drop", doomed, "--hook=xdp"}},
			flows: append(between(across),
				flow{port: doomedPort, to: right4, route: across, ends: "right:right-veth in xdp"},
				flow{port: doomedPort, to: right6, route: across, ends: "right:right-veth in xdp"}),
		},
		{
			name: "nat", up: []string{"nat", "--wan"},
			filters: [][]string{{"host:left-br0-veth", "drop", doomed}},
			flows: slices.Concat(between(across), abroad(leftOut), abroad(rightOut), []flow{
				{port: doomedPort, to: outside, route: leftOut, ends: "host:left-br0-veth in"},
				{port: doomedPort, to: right6, route: across, ends: "host:left-br0-veth in"},
			}),
		},
	}
}

// between returns flows from left to right and back.
func between(route []string) []flow {
	back := wayBack(route)
	return []flow{
		{port: 7, to: right4, route: route}, {port: 7, to: right6, route: route},
		{port: 7, to: left4, route: back}, {port: 7, to: left6, route: back},
		{echo: true, port: 7, to: right4, route: route}, {echo: true, port: 7, to: right6, route: route},
		{echo: true, port: 7, to: left4, route: back}, {echo: true, port: 7, to: left6, route: back},
	}
}

// abroad returns flows from a node to wan. Those of two nodes have the same
// ports and ids, so that one of them needs others behind the translation.
func abroad(route []string) []flow {
	return []flow{
		{port: 8, to: outside, route: route}, {port: 8, to: outside6, route: route},
		{echo: true, port: 8, to: outside, route: route}, {echo: true, port: 8, to: outside6, route: route},
	}
}

// TestOracle sends probes through labs and compares their Paths with what the
// sockets at both ends and the kernel's counters know.
func TestOracle(t *testing.T) {
	testenv.Root(t)
	sent := 0
	for _, p := range provings() {
		t.Run(p.name, func(t *testing.T) {
			upLab(t, p.up...)
			for _, f := range p.filters {
				testenv.Run(t, "nsbpf", append([]string{"filter", "add"}, f...)...)
			}
			c := openCourse(t, p)
			for _, tr := range trials {
				t.Run(tr.name, func(t *testing.T) {
					r := c.run(t, tr)
					sent += r.sent
					r.log(t)
					r.checkLedger(t, tr.ring == tiny, !p.xdp || !tr.tcp)
					r.checkTruth(t, tr.deaf)
					for way, j := range r.judged() {
						t.Run(wayNames[way], func(t *testing.T) { r.checkJudge(t, j) })
					}
				})
			}
		})
	}
	t.Logf("%d probes in all", sent)
}

func (r *record) lost() int { return int(r.ledgers.Total.Lost) }

// judged returns the judges that can be right: addresses are not enough where
// sightings are lost.
func (r *record) judged() []*judge {
	if r.lost() > 0 {
		return r.judges[:byAddresses]
	}
	return r.judges
}

func (r *record) log(t *testing.T) {
	t.Helper()
	l := r.ledgers.Total
	t.Logf("%d probes and %d replies sent in %s, %.0f probes/s; seen %d = traced %d + filtered %d + sampled out %d + lost %d; full queues %v, full sockets %v",
		r.sent, len(r.oracle.probes)-r.sent, r.took.Round(time.Millisecond), float64(r.sent)/r.took.Seconds(),
		l.Seen, l.Traced, l.Filtered, l.SampledOut, l.Lost, notZero(r.full), notZero(r.sockets))
	for way, j := range r.judged() {
		s := j.score()
		t.Logf("%-11s precision %.6f of %d sightings, recall %.6f of %d whole probes; arrived %d, filtered %d, vanished %v, unclaimed %v, missing %d, unseen %d, wrong %d",
			wayNames[way], j.precision(), j.known, s.recall(), s.Whole, s.Arrived, s.Filtered, s.Vanished, s.Unclaimed, s.Missing, s.Unseen, len(s.Wrong))
	}
}

func notZero(m map[string]int64) map[string]int64 {
	m = maps.Clone(m)
	maps.DeleteFunc(m, func(_ string, n int64) bool { return n == 0 })
	return m
}

// checkLedger wants every packet accounted for; counted, as many as the kernel
// has, which with XDP counts TCP before GRO and after GSO; and loses, that some
// were lost.
func (r *record) checkLedger(t *testing.T, loses, counted bool) {
	t.Helper()
	for _, h := range r.ledgers.Hops {
		name := h.Hop.String()
		if !h.Balanced() {
			t.Errorf("the ledger of %s does not add up: %+v", name, h.Ledger)
		}
		if seen := int64(h.Seen); counted && (seen < r.least[name] || seen > r.most[name]) {
			t.Errorf("%d packets were seen at %s, of %d to %d that the kernel counted", seen, name, r.least[name], r.most[name])
		}
	}
	if !r.ledgers.Total.Balanced() {
		t.Errorf("the ledger does not add up: %+v", r.ledgers.Total)
	}
	if loses && r.lost() == 0 {
		t.Error("nothing was lost, in a ring for two dozen sightings that nobody read for a second")
	}
}

// checkTruth wants the sightings themselves, of which the joiners know no more
// than anybody, to fit what was sent.
func (r *record) checkTruth(t *testing.T, deaf bool) {
	t.Helper()
	if n := r.oracle.twice; n > 0 {
		t.Errorf("%d probes came to a socket twice, or to a wrong one", n)
	}
	if s := r.judges[0].score(); s.Missing+s.Unseen > r.lost()+int(r.stayed) {
		t.Errorf("%d sightings are missing and %d probes were never seen, of %d lost and %d that were not sent for want of a neighbour",
			s.Missing, s.Unseen, r.lost(), r.stayed)
	}
	drops := int64(0)
	for _, n := range r.sockets {
		drops += n
	}
	if deaf && drops == 0 {
		t.Error("no socket was full, though nobody read them")
	}
}

// checkJudge wants Paths that are the probes' own, and end where the probes did.
func (r *record) checkJudge(t *testing.T, j *judge) {
	t.Helper()
	s := j.score()
	if j.precision() < 1 {
		t.Errorf("precision %.6f: of %d sightings %d are in Paths of several packets and %d in the run of another packet: %s",
			j.precision(), j.known, j.mixed, j.foreign, j.example)
	}
	if s.recall() < 0.999 || r.lost() == 0 && s.Split > 0 {
		t.Errorf("recall %.6f: %d of %d probes are several Paths: %s", s.recall(), s.Split, s.Whole, s.SplitOne)
	}
	for _, w := range s.Wrong[:min(len(s.Wrong), 5)] {
		t.Error(w)
	}
	for node, n := range r.sockets {
		if got := int64(s.Unclaimed[node]); got > n || r.lost() == 0 && got != n {
			t.Errorf("%d probes were delivered to %s and not received, of which its sockets dropped %d", got, node, n)
		}
	}
	for hop, n := range s.Vanished {
		if most := r.full[hop] + int64(r.lost()); int64(n) > most {
			t.Errorf("%d probes were last seen at %s, where %d packets can have been lost", n, hop, most)
		}
	}
}
