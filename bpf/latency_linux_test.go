package bpf

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sync/errgroup"

	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/internal/testenv"
)

// hopCount is how many hops the tests' maps have room for.
const hopCount = int(lastHop) + 1

// timer is latency programs at some hops.
type timer struct {
	testing.TB
	coll *ebpf.Collection
}

type timerOptions struct {
	hops  []hop.ID // by default testHop
	oneOf uint32
	// edges are known to the programs; that from a hop to itself is one that a
	// test run can walk: it runs a program on one skb over and over.
	edges   map[[2]hop.ID]EdgeKind
	idle    bool // no packet is chosen
	oneSlot bool // for all packets
}

func newTimer(t testing.TB, o timerOptions) *timer {
	t.Helper()
	if o.hops == nil {
		o.hops = []hop.ID{testHop}
	}
	bits := uint32(14)
	if o.oneSlot {
		bits = 0
	}
	s := spec(t, LatencySpec)
	for _, err := range []error{SetHops(s, hopCount), SetSlots(s, bits), SetOneOf(s, o.oneOf)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s.Maps[MapHistograms].MaxEntries = 2
	var sites []Site
	for _, id := range o.hops {
		sites = append(sites, Site{Hop: id, Ethernet: true})
	}
	tm := &timer{t, load(t, s, ProgLatencyTC, sites...)}
	for e, kind := range o.edges {
		tm.put(MapEdges, EdgeIndex(e[0], e[1], hopCount), Edge{Kind: kind})
	}
	first := make([]Timing, ebpf.MustPossibleCPU())
	for i := range first {
		first[i].Wait = 1
	}
	for _, id := range o.hops {
		if !o.idle {
			tm.put(MapTimings, uint32(id), first)
		}
	}
	return tm
}

func (t *timer) put(name string, key uint32, value any) {
	t.Helper()
	if err := t.coll.Maps[name].Put(key, value); err != nil {
		t.Fatal(err)
	}
}

func (t *timer) prog(id hop.ID) *ebpf.Program { return t.coll.Programs[CopyName(ProgLatencyTC, id)] }

// walk runs the program of a hop n times on one skb.
func (t *timer) walk(id hop.ID, frame []byte, n uint32) {
	t.Helper()
	verdict, err := t.prog(id).Run(&ebpf.RunOptions{Data: frame, Repeat: n})
	if err != nil || verdict != tcNext {
		t.Fatalf("verdict %d, error %v", int32(verdict), err)
	}
}

// timing is what was counted at a hop.
func (t *timer) timing(id hop.ID) Timing {
	t.Helper()
	var perCPU []Timing
	if err := t.coll.Maps[MapTimings].Lookup(uint32(id), &perCPU); err != nil {
		t.Fatal(err)
	}
	var sum Timing
	for _, c := range perCPU {
		sum.Seen += c.Seen
		sum.Timed += c.Timed
		sum.Reused += c.Reused
		sum.Crowded += c.Crowded
		sum.Displaced += c.Displaced
	}
	return sum
}

// histograms are those that were used, merged, by the edge they are of.
func (t *timer) histograms() map[[2]hop.ID]Histogram {
	t.Helper()
	m := t.coll.Maps[MapHistograms]
	all := make(map[[2]hop.ID]Histogram)
	for i := range m.MaxEntries() {
		var perCPU []Histogram
		if err := m.Lookup(i, &perCPU); err != nil {
			t.Fatal(err)
		}
		for _, h := range perCPU {
			if h == (Histogram{}) {
				continue
			}
			edge := [2]hop.ID{hop.ID(h.From), hop.ID(h.To)}
			sum := all[edge]
			sum.MaxNS = max(sum.MaxNS, h.MaxNS)
			for b, n := range h.Counts {
				sum.Counts[b] += n
			}
			all[edge] = sum
		}
	}
	return all
}

func total(h Histogram) (n uint64) {
	for _, c := range h.Counts {
		n += c
	}
	return n
}

var here = [2]hop.ID{testHop, testHop}

// A packet is timed exactly on what is an edge; a test run's skb has a socket,
// so that it has come through no stack.
func TestLatency(t *testing.T) {
	const n = 1000
	for name, c := range map[string]struct {
		kind EdgeKind
		want Timing
	}{
		"edge":    {EdgeDirect, Timing{Seen: n, Timed: n - 1}},
		"stack":   {EdgeStack, Timing{Seen: n, Reused: n - 1}},
		"no edge": {EdgeNone, Timing{Seen: n, Reused: n - 1}},
	} {
		t.Run(name, func(t *testing.T) {
			for frame, r := range readings(t) {
				tm := newTimer(t, timerOptions{edges: map[[2]hop.ID]EdgeKind{here: c.kind}})
				tm.walk(testHop, r.frame, n)
				if diff := cmp.Diff(c.want, tm.timing(testHop)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", frame, diff)
				}
				h := tm.histograms()[here]
				if got := total(h); got != c.want.Timed {
					t.Errorf("%s: %d times in the histogram, want %d", frame, got, c.want.Timed)
				}
				if c.want.Timed > 0 && h.Counts[BucketOf(h.MaxNS)] == 0 {
					t.Errorf("%s: nothing in the bucket of the maximum, %d ns", frame, h.MaxNS)
				}
			}
		})
	}
}

// Two packets with the same skb address are not taken for one, though the one's
// last hop is before the other's first.
func TestLatencyReuse(t *testing.T) {
	with := func(change func(*layers.IPv4, *layers.TCP)) []byte {
		ip, tcp := ip4(6), tcp()
		change(ip, tcp)
		return frame(t, eth(layers.EthernetTypeIPv4), ip, tcp, text("GET /"))
	}
	nothing := func(*layers.IPv4, *layers.TCP) {}
	unnumbered := func(ip *layers.IPv4, _ *layers.TCP) { ip.Id = 0 }
	rs := readings(t)
	for name, c := range map[string]struct {
		one, other []byte
		same       bool
	}{
		"itself":               {with(nothing), with(nothing), true},
		"translated":           {with(nothing), with(func(ip *layers.IPv4, tcp *layers.TCP) { ip.SrcIP[3]++; ip.TTL--; tcp.SrcPort++ }), true},
		"another id":           {with(nothing), with(func(ip *layers.IPv4, _ *layers.TCP) { ip.Id++ }), false},
		"another seq":          {with(unnumbered), with(func(ip *layers.IPv4, tcp *layers.TCP) { ip.Id = 0; tcp.Seq++ }), false},
		"longer":               {with(nothing), append(with(nothing), 0), false},
		"request and reply":    {rs["icmp echo request"].frame, rs["icmp echo reply"].frame, false},
		"request and reply, 6": {rs["icmp6 echo request"].frame, rs["icmp6 echo reply"].frame, false},
		"protocols":            {rs["udp"].frame, rs["arp request"].frame, false},
	} {
		t.Run(name, func(t *testing.T) {
			tm := newTimer(t, timerOptions{edges: map[[2]hop.ID]EdgeKind{here: EdgeDirect}})
			// An skb that is freed is mostly the next that is made.
			for range 200 {
				tm.walk(testHop, c.one, 1)
				tm.walk(testHop, c.other, 1)
			}
			got := tm.timing(testHop)
			if c.same && got.Timed == 0 || !c.same && got.Timed > 0 {
				t.Errorf("timed %d", got.Timed)
			}
			if !c.same && got.Reused == 0 {
				t.Errorf("no address was used again, so that nothing was tested: %+v", got)
			}
		})
	}
}

// CPUs that write one slot at the same time lose times and make none up: packets
// alike in all but their address and hop, with an edge from each hop to the other
// that none of them goes.
func TestLatencyTorn(t *testing.T) {
	hops := []hop.ID{testHop, otherHop}
	tm := newTimer(t, timerOptions{hops: hops, oneSlot: true, edges: map[[2]hop.ID]EdgeKind{
		{testHop, otherHop}: EdgeDirect, {otherHop, testHop}: EdgeDirect,
	}})
	f := readings(t)["udp"].frame
	// Whether the two run at the same time is the scheduler's choice.
	rounds := uint64(0)
	for met := false; !met; rounds++ {
		if rounds == 100 {
			t.Fatal("the two never met, so that nothing was tested")
		}
		var g errgroup.Group
		for _, id := range hops {
			g.Go(func() error {
				for range 10 {
					if _, err := tm.prog(id).Run(&ebpf.RunOptions{Data: f, Repeat: 50_000}); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		met = tm.timing(testHop).Displaced > 0 && tm.timing(otherHop).Displaced > 0
	}
	for _, id := range hops {
		got := tm.timing(id)
		// A run that a signal interrupts begins anew.
		if got.Seen < rounds*500_000 {
			t.Errorf("hop %d: seen %d, want all of %d", id, got.Seen, rounds*500_000)
		}
		// A run may be given the address of one that ended: that is a time.
		if got.Timed > rounds*50 {
			t.Errorf("hop %d: %d times were made up in %d rounds", id, got.Timed, rounds)
		}
	}
}

// The sample has the share that was asked for, whatever the address is.
func TestLatencySample(t *testing.T) {
	const n = 100_000
	f := readings(t)["udp"].frame
	for _, oneOf := range []uint32{1, 2, 16, 1000} {
		tm := newTimer(t, timerOptions{oneOf: oneOf, edges: map[[2]hop.ID]EdgeKind{here: EdgeDirect}})
		tm.walk(testHop, f, n)
		got, want := float64(tm.timing(testHop).Timed), n/float64(oneOf)
		// Distances even in 1…2N-1 have a variance of N²/3.
		if six := 6 * math.Sqrt(want/3); math.Abs(got-want) > six+1 {
			t.Errorf("1/%d: %v of %d timed, want %v ± %.0f", oneOf, got, n, want, six)
		}
	}
	tm := newTimer(t, timerOptions{idle: true, edges: map[[2]hop.ID]EdgeKind{here: EdgeDirect}})
	tm.walk(testHop, f, 100)
	if diff := cmp.Diff(Timing{Seen: 100}, tm.timing(testHop)); diff != "" {
		t.Errorf("none chosen (-want +got):\n%s", diff)
	}
}

// Edges are given histograms as they are used, and those that come too late are
// counted.
func TestLatencyCrowded(t *testing.T) {
	const n = 10
	ids := []hop.ID{5, 1, 3}
	edges := make(map[[2]hop.ID]EdgeKind)
	for _, id := range ids {
		edges[[2]hop.ID{id, id}] = EdgeDirect
	}
	tm := newTimer(t, timerOptions{hops: ids, edges: edges})
	f := readings(t)["tcp6"].frame
	for _, id := range ids {
		tm.walk(id, f, n)
	}
	for i, id := range ids {
		want := Timing{Seen: n, Timed: n - 1}
		if i == 2 {
			want = Timing{Seen: n, Crowded: n - 1}
		}
		got := tm.timing(id)
		got.Reused = 0 // the address, of the skb at the hop before
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("hop %d (-want +got):\n%s", id, diff)
		}
		if got := total(tm.histograms()[[2]hop.ID{id, id}]); got != want.Timed {
			t.Errorf("hop %d: %d times in the histogram, want %d", id, got, want.Timed)
		}
	}
}

// The program's buckets are Go's.
func TestBucketOf(t *testing.T) {
	testenv.Root(t)
	values := []uint64{0, 1, 31, 32, 63, 64, 65, 1<<36 - 1, 1 << 36, math.MaxUint64}
	for p := range 64 {
		v := uint64(1) << p
		values = append(values, v-1, v, v+1, v+rand.Uint64N(v))
	}
	for _, v := range values {
		if got, want := kernelBucket(t, v), BucketOf(v); got != want {
			t.Errorf("%d ns: bucket %d, in Go %d", v, got, want)
		}
	}
}

// kernelBucket runs bucket_of of latency.c.
func kernelBucket(t *testing.T, ns uint64) int {
	t.Helper()
	const name = "bucket_of"
	all := spec(t, LatencySpec).Programs[ProgLatencyTC].Instructions
	start := slices.IndexFunc(all, func(i asm.Instruction) bool { return i.Symbol() == name })
	if start < 0 {
		t.Fatalf("no function %s", name)
	}
	body := asm.Instructions{asm.LoadImm(asm.R1, int64(ns), asm.DWord), asm.Call.Label(name), asm.Return()}
	for i, ins := range all[start:] {
		if i > 0 && ins.Symbol() != "" {
			break
		}
		ins.Metadata = asm.Metadata{}
		if i == 0 {
			ins = ins.WithSymbol(name)
		}
		body = append(body, ins)
	}
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, Instructions: body, License: "GPL"})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	defer p.Close()
	bucket, err := p.Run(&ebpf.RunOptions{Data: make([]byte, 64)})
	if err != nil {
		t.Fatal(err)
	}
	return int(bucket)
}

func BenchmarkLatencyTC(b *testing.B) {
	for _, c := range []struct {
		name string
		timerOptions
	}{
		{"none", timerOptions{idle: true}},
		{"one of 64", timerOptions{oneOf: 64}},
		{"one of 16", timerOptions{oneOf: 16}},
		{"all", timerOptions{oneOf: 1}},
	} {
		b.Run(c.name, func(b *testing.B) {
			c.edges = map[[2]hop.ID]EdgeKind{here: EdgeDirect}
			measure(b, newTimer(b, c.timerOptions).prog(testHop))
		})
	}
}
