package main

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/nsbpf/nsbpf/bench"
	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/internal/netns"
	"github.com/nsbpf/nsbpf/internal/testenv"
	"github.com/nsbpf/nsbpf/loader"
	"github.com/nsbpf/nsbpf/topology"
	"github.com/nsbpf/nsbpf/trace"
)

// course is a proving that is up.
type course struct {
	proving
	lab   *topology.Lab
	nodes map[string]*os.File
}

func openCourse(t *testing.T, p proving) *course {
	t.Helper()
	lab, err := topology.Open(p.name)
	if err != nil {
		t.Fatal(err)
	}
	c := &course{proving: p, lab: lab, nodes: map[string]*os.File{}}
	for _, n := range lab.Topology.Nodes {
		ns, err := lab.Netns(n.Name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ns.Close() })
		c.nodes[n.Name] = ns
	}
	for i := range p.flows { // bridges and neighbours learn where everybody is
		f := &p.flows[i]
		testenv.Run(t, "nsbpf", "exec", p.name+"/"+f.from(), "--", "ping", "-nqc1", f.to.String())
	}
	return c
}

// follower joins what a trace sees in several ways, and has each judged.
type follower struct {
	oracle  *oracle
	joiners []*trace.Joiner
	judges  []*judge
	stall   time.Duration // it stands still after the first batch, if not 0
}

// Ways in which a follower joins. The last one has to do without what the
// probes carry: while nothing is lost, addresses tell packets apart. It is left
// out where XDP makes new packets of some.
const (
	byAuto = iota
	byFingerprint
	byAddresses
)

var wayNames = [...]string{"auto", "fingerprint", "addresses"}

func (c *course) follow(t *testing.T, tr trial, o *oracle) *follower {
	t.Helper()
	f := &follower{oracle: o, stall: tr.stall}
	for way := range wayNames {
		if way == byAddresses && c.xdp {
			continue
		}
		id := trace.Auto
		if way == byFingerprint {
			id = trace.Fingerprint
		}
		config, err := joinerConfig(c.lab, o.hops, id)
		if err != nil {
			t.Fatal(err)
		}
		judge := newJudge(o)
		joiner, err := trace.NewJoiner(config, judge.path)
		if err != nil {
			t.Fatal(err)
		}
		f.joiners, f.judges = append(f.joiners, joiner), append(f.judges, judge)
	}
	return f
}

func (f *follower) take(batch *collector.Batch, until uint64) error {
	runs := batch.Runs
	f.oracle.see(runs)
	for way, joiner := range f.joiners {
		if way == byAddresses {
			runs = alike(runs)
		}
		joiner.Add(trace.Input{Runs: runs, Until: until})
	}
	if len(runs) > 0 && f.stall > 0 {
		<-time.After(f.stall)
		f.stall = 0
	}
	return nil
}

// record is what there is to be compared after a trial.
type record struct {
	*follower
	sent    int
	took    time.Duration
	ledgers collector.Ledgers
	least   map[string]int64 // by hop: so many packets passed at least, as the kernel counts
	most    map[string]int64
	full    map[string]int64 // by hop: packets that found the queue behind it full
	stayed  uint64           // packets that their sender dropped before any hop
	sockets map[string]int64 // by node: packets that found a socket full
}

// run makes a trial.
func (c *course) run(t *testing.T, tr trial) *record {
	t.Helper()
	if testing.Short() {
		tr.probes = min(tr.probes, 100)
	}
	early := c.readLinks(t)
	traced, err := loader.Open(c.lab).Trace(t.Context(), loader.TraceOptions{Ring: tr.ring})
	if err != nil {
		t.Fatal(err)
	}
	defer traced.Close()
	begun := c.readLinks(t)
	o, err := newOracle(traced.Hops, c.flows, tr.probes)
	if err != nil {
		t.Fatal(err)
	}
	sinks := c.openSinks(t, tr.deaf)
	r := &record{follower: c.follow(t, tr, o), sent: len(o.byID)}
	stop := r.read(t, traced)
	start, unresolved := time.Now(), unresolvedDiscards(t)
	c.send(t, tr, o)
	r.took = time.Since(start)
	c.settle(t)
	r.stayed = unresolvedDiscards(t) - unresolved
	r.sockets = c.socketDrops(t)
	before := c.readLinks(t)
	stop()
	after := c.readLinks(t)
	r.least, r.most, r.full = before.since(begun), after.since(early), after.full
	for hop, n := range early.full {
		r.full[hop] -= n
	}

	for node, all := range sinks {
		for _, s := range all {
			if err := s.close(); err != nil {
				t.Error(err)
			}
			o.receive(node, s)
		}
	}
	if r.ledgers, err = collector.ReadLedgers(traced.Ledgers, traced.Hops); err != nil {
		t.Fatal(err)
	}
	return r
}

// read follows a trace until stop is called, as `nsbpf trace` does.
func (f *follower) read(t *testing.T, traced *loader.Trace) (stop func()) {
	t.Helper()
	stopped := readTrace(t, traced, f.take)
	return func() {
		t.Helper()
		stopped()
		for _, j := range f.joiners {
			j.Flush()
		}
	}
}

// readTrace hands what a trace sees to take until stop is called.
func readTrace(t *testing.T, traced *loader.Trace, take func(*collector.Batch, uint64) error) (stop func()) {
	t.Helper()
	ring, err := collector.OpenRing(traced.Ring, traced.Sweep)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- ring.Read(ctx, take) }()
	return func() {
		t.Helper()
		cancel()
		if err := errors.Join(<-done, traced.Detach(), ring.Drain(take), ring.Close()); err != nil {
			t.Error(err)
		}
	}
}

// openSinks opens sockets in all nodes where probes end.
func (c *course) openSinks(t *testing.T, deaf bool) map[string][]*sink {
	t.Helper()
	room := 8 << 20
	if deaf {
		room = 1 << 14
	}
	sinks := map[string][]*sink{}
	for node, ns := range c.nodes {
		if node == "host" {
			continue
		}
		var err error
		if sinks[node], err = openSinks(ns, room); err != nil {
			t.Fatal(err)
		}
		for _, s := range sinks[node] {
			t.Cleanup(func() { s.conn.Close() })
			if !deaf {
				s.listen()
			}
		}
	}
	return sinks
}

// send sends all probes, and TCP beside them.
func (c *course) send(t *testing.T, tr trial, o *oracle) {
	t.Helper()
	var g errgroup.Group
	for i := range c.flows {
		f := &c.flows[i]
		g.Go(func() error { return sendProbes(c.nodes[f.from()], f, o.ids[i], tr.pace) })
	}
	if tr.tcp {
		load := bench.TCP(c.nodes["left"], c.nodes["right"], right4)
		if wan := c.nodes["wan"]; wan != nil {
			load = bench.TCP(c.nodes["left"], wan, outside)
		}
		g.Go(func() error {
			_, err := load.Run(t.Context(), 300*time.Millisecond)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

// settle returns when nothing passes any more.
func (c *course) settle(t *testing.T) {
	t.Helper()
	clock := time.NewTicker(20 * time.Millisecond)
	defer clock.Stop()
	last := c.readLinks(t)
	for same, ticks := 0, 0; same < 3; ticks++ {
		<-clock.C
		now := c.readLinks(t)
		if same++; !maps.Equal(last.passed, now.passed) {
			same = 0
		}
		if last = now; ticks > 500 {
			t.Fatal("the lab does not come to rest")
		}
	}
}

// links is what the kernel counted since the devices were made.
type links struct {
	passed map[string]int64 // by hop: packets
	full   map[string]int64 // by hop out: of them, those that found the queue full
}

func (l links) since(m links) map[string]int64 {
	d := make(map[string]int64, len(l.passed))
	for hop, n := range l.passed {
		d[hop] = n - m.passed[hop]
	}
	return d
}

// readLinks reads the counters that `ip -s link` shows, and makes them what tc
// sees: without what a filter dropped in XDP.
func (c *course) readLinks(t *testing.T) links {
	t.Helper()
	l := links{map[string]int64{}, map[string]int64{}}
	for node := range c.nodes {
		for _, line := range c.readProc(t, node, "dev") {
			device, numbers, ok := strings.Cut(line, ":")
			f := strings.Fields(numbers)
			if device = strings.TrimSpace(device); !ok || device == "lo" {
				continue
			}
			place := node + ":" + device
			l.passed[place+" in"], l.passed[place+" in xdp"] = packets(t, f[1]), packets(t, f[1])
			l.full[place+" out"] = packets(t, f[11])
			l.passed[place+" out"] = packets(t, f[9]) + packets(t, f[11])
		}
	}
	filters, err := loader.Open(c.lab).Filters()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range filters {
		n, err := loader.Open(c.lab).CountFilter(f.ID)
		if err != nil {
			t.Fatal(err)
		}
		if f.Hop.Layer == hop.XDP {
			l.passed[f.Hop.Place()+" in"] -= int64(n.Matched)
		}
	}
	return l
}

// socketDrops returns how many packets found a socket full, by node.
func (c *course) socketDrops(t *testing.T) map[string]int64 {
	t.Helper()
	drops := map[string]int64{}
	for node := range c.nodes {
		for _, table := range []string{"udp", "udp6", "raw", "raw6"} {
			for _, line := range c.readProc(t, node, table)[1:] {
				f := strings.Fields(line)
				drops[node] += packets(t, f[len(f)-1])
			}
		}
	}
	return drops
}

// readProc returns the lines of a file of a node's /proc/net.
func (c *course) readProc(t *testing.T, node, file string) (lines []string) {
	t.Helper()
	err := netns.Do(c.nodes[node], func() error {
		b, err := os.ReadFile("/proc/thread-self/net/" + file)
		lines = strings.Split(strings.TrimSpace(string(b)), "\n")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func packets(t *testing.T, s string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// unresolvedDiscards returns how many packets, of all namespaces, were dropped
// because too many waited for a neighbour's address. Only the first namespace of
// the machine tells; where it is not to be had, none is known.
func unresolvedDiscards(t *testing.T) (sum uint64) {
	t.Helper()
	for _, table := range []string{"arp_cache", "ndisc_cache"} {
		b, err := os.ReadFile("/proc/1/net/stat/" + table)
		if errors.Is(err, fs.ErrNotExist) {
			return 0
		}
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(string(b)), "\n")
		column := slices.Index(strings.Fields(lines[0]), "unresolved_discards")
		for _, perCPU := range lines[1:] {
			n, err := strconv.ParseUint(strings.Fields(perCPU)[column], 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			sum += n
		}
	}
	return sum
}

// joinerConfig tells the joiner what is known of the lab.
func joinerConfig(lab *topology.Lab, hops []hop.Hop, id trace.Identity) (trace.Config, error) {
	owners, err := addressOwners(lab)
	return trace.Config{
		Hops:     hops,
		Edges:    lab.Topology.Edges(hops),
		Owners:   owners,
		Identity: id,
	}, err
}
