package trace

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/hop"
)

// recording is what a trace read from its ring in a real lab, and the truth about
// it. `go test ./cmd/nsbpf -run TestRecord -record`, as root, makes them anew.
type recording struct {
	Config
	name    string
	entries []entry
	packets []recorded
	serials map[spot]int // of its sightings, from 0
	of      []int        // by serial: the packet, from 1; 0: not known
	prints  []uint64     // by serial: by what packets are told apart
}

// entry is a run, or says that all sightings before a time were given.
type entry struct {
	Run    *collector.Run
	Packet int
	Until  uint64
}

// recorded is the truth about one packet.
type recorded struct {
	Probe   bool // known by its payload, else by its sequence numbers
	Arrived bool
	Attempt int
}

// spot is where and when a sighting was. No two are the same.
type spot struct {
	time, skb uint64
	hop       uint16
	seq       uint32
}

func spotOf(s *collector.Sighting, at uint16, time uint64) spot {
	return spot{time, s.Skb, at, s.Packet.Seq}
}

// eachRecording runs test with every recording.
func eachRecording(t *testing.T, test func(*testing.T, *recording)) {
	files, err := filepath.Glob("testdata/recorded-*.json.gz")
	if err != nil || len(files) < 5 {
		t.Fatalf("the recordings are %q (%v)", files, err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "recorded-"), ".json.gz")
		t.Run(name, func(t *testing.T) { test(t, readRecording(t, name, file)) })
	}
}

func readRecording(t *testing.T, name, file string) *recording {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(bufio.NewReader(z))
	r := &recording{name: name, serials: map[spot]int{}}
	head := struct {
		*Config
		Packets *[]recorded
	}{&r.Config, &r.packets}
	if err := dec.Decode(&head); err != nil {
		t.Fatal(err)
	}
	for {
		var e entry
		err := dec.Decode(&e)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		r.entries = append(r.entries, e)
	}
	r.number(t)
	return r
}

// number gives the sightings serials.
func (r *recording) number(t *testing.T) {
	t.Helper()
	for _, e := range r.entries {
		if e.Run == nil {
			continue
		}
		s := &e.Run.Sighting
		for i := range e.Run.Len() {
			at := spotOf(s, 0, 0)
			at.hop, at.time = e.Run.At(i)
			if _, twice := r.serials[at]; twice {
				t.Fatalf("two sightings are the same: %+v", at)
			}
			r.serials[at] = len(r.of)
			r.of, r.prints = append(r.of, e.Packet), append(r.prints, printOf(*s))
		}
	}
}

// untold is the print of what nothing tells from others: of a fragment that is
// neither first nor last, with another id than before. A bridge that puts IPv6
// datagrams together and cuts them again gives them one.
const untold = 0

// printOf returns the fingerprint of s without what a bridge changes.
func printOf(s collector.Sighting) uint64 {
	if s.Packet.EtherType == collector.EtherIPv6 && s.IsFragment() && !isLastPiece(&s) {
		return untold
	}
	s.Packet.FragID = 0
	return fingerprint(&s)
}

// alike returns the fingerprints that several packets have, those that are not
// known included.
func (r *recording) alike() map[uint64]bool {
	several, first := map[uint64]bool{}, map[uint64]int{}
	for s, print := range r.prints {
		if p, ok := first[print]; ok && p != r.of[s] || r.of[s] == 0 {
			several[print] = true
		}
		first[print] = r.of[s]
	}
	return several
}

// course is a Path of a recording, as it is compared with the truth.
type course struct {
	Serials []int // sorted
	Verdict Verdict
	End     int // a serial
	Attempt int
	InOrder bool // some of it was known by its turn alone
}

// joined is what a Joiner made of a recording.
type joined struct {
	*recording
	courses []course // in the order of their first serials
	paths   []*Path  // of the courses
	totals  Totals
}

// join gives entries to a Joiner in batches of random sizes. move says by what the
// sightings of a hop were moved in time.
func (r *recording) join(t *testing.T, id Identity, entries []entry, random *rand.Rand, move func(hop uint16) uint64) *joined {
	t.Helper()
	c := r.Config
	c.Identity = id
	got := &joined{recording: r}
	j := mustJoiner(t, c, func(p *Path) {
		checkPath(t, c, p)
		w := course{Verdict: p.Verdict, Attempt: p.Attempt}
		for i := range p.Steps {
			st := &p.Steps[i]
			serial, ok := r.serials[spotOf(&st.Sighting, st.Hop, st.TimeNS-move(st.Hop))]
			if !ok {
				t.Fatalf("step %d of Path %d was never given", i, p.Number)
			}
			w.Serials = append(w.Serials, serial)
			w.InOrder = w.InOrder || st.Match == MatchOrder
		}
		w.End = w.Serials[p.End]
		slices.Sort(w.Serials)
		got.courses, got.paths = append(got.courses, w), append(got.paths, p.Clone())
	})
	var batch []collector.Run
	for i, e := range entries {
		if e.Run != nil {
			batch = append(batch, *e.Run)
		}
		if e.Until != 0 || i == len(entries)-1 || random.IntN(8) == 0 {
			j.Add(Input{Runs: batch, Until: e.Until})
			batch = batch[:0]
		}
	}
	j.Flush()
	got.totals = j.Totals()
	sort.Sort(got)
	return got
}

func still(uint16) uint64 { return 0 }

func (g *joined) Len() int { return len(g.courses) }

func (g *joined) Less(a, b int) bool {
	return slices.Compare(g.courses[a].Serials, g.courses[b].Serials) < 0
}

func (g *joined) Swap(a, b int) {
	g.courses[a], g.courses[b] = g.courses[b], g.courses[a]
	g.paths[a], g.paths[b] = g.paths[b], g.paths[a]
}

// describe says what Path i is made of, for who has to find out why it is wrong.
func (g *joined) describe(i int) string {
	var b strings.Builder
	for k := range g.paths[i].Steps {
		st := &g.paths[i].Steps[k]
		h := g.Hops[slices.IndexFunc(g.Hops, func(h hop.Hop) bool { return h.ID == st.HopID() })]
		p := &st.Packet
		of := g.of[g.serials[spotOf(&st.Sighting, st.Hop, st.TimeNS)]] // right if no clock was moved
		fmt.Fprintf(&b, "\n  %d: packet %d at %s after %d by %s: %s > %s, proto %d, id %x frag %x of %x, seq %d+%d, skb %x head %x at %d",
			k, of, h, st.Prev, st.Match, st.Src(), st.Dst(), p.Proto, p.IPID, p.Frag, p.FragID, st.Offset, st.Length, st.Skb, st.Head, st.TimeNS)
	}
	return b.String()
}

// checkWhole wants each sighting that was given, in one course, and one only.
func (g *joined) checkWhole(t *testing.T, given []int) {
	t.Helper()
	seen := make([]int, len(given))
	for _, c := range g.courses {
		for _, s := range c.Serials {
			seen[s]++
		}
	}
	n := uint64(0)
	for s := range seen {
		n += uint64(given[s])
		if seen[s] != given[s] {
			t.Fatalf("sighting %d was given %d times and is in %d Paths", s, given[s], seen[s])
		}
	}
	tot := g.totals
	if tot.Sightings != n || tot.Strays+tot.GivenUp+tot.Forgotten != 0 || tot.Paths != uint64(len(g.courses)) ||
		tot.Paths != tot.Delivered+tot.LeftLab+tot.Merged+tot.PartlyDelivered+tot.LastSeen {
		t.Errorf("totals %+v of %d sightings and %d Paths", tot, n, len(g.courses))
	}
}

// count returns how often each sighting is in entries.
func (r *recording) count(entries []entry, move func(uint16) uint64) []int {
	given := make([]int, len(r.of))
	for _, e := range entries {
		for i := 0; e.Run != nil && i < e.Run.Len(); i++ {
			at, time := e.Run.At(i)
			given[r.serials[spotOf(&e.Run.Sighting, at, time-move(at))]]++
		}
	}
	return given
}

// checkUnmixed wants no course of two packets. Those that look the same can only be
// told apart by their order: if that was lost, they may be mixed.
func (g *joined) checkUnmixed(t *testing.T, ordered bool) {
	t.Helper()
	mixed := 0
	for i, c := range g.courses {
		prints := map[int][]uint64{} // by packet
		for _, s := range c.Serials {
			prints[g.of[s]] = append(prints[g.of[s]], g.prints[s])
		}
		own := g.of[c.Serials[0]]
		looksOwn := func(print uint64) bool {
			return print == untold || slices.Contains(prints[own], print) || slices.Contains(prints[own], untold)
		}
		for other, its := range prints {
			if other == own || !ordered && slices.ContainsFunc(its, looksOwn) {
				continue
			}
			if mixed++; mixed < 3 {
				t.Errorf("one Path is of packets %d and %d:%s", own, other, g.describe(i))
			}
			break
		}
	}
	if mixed > 0 {
		t.Errorf("%d of %d Paths are of several packets", mixed, len(g.courses))
	}
}

// checkTruth wants one course of each packet that is known, all its sightings, and
// that it says what became of the packet.
func (g *joined) checkTruth(t *testing.T) {
	t.Helper()
	g.checkUnmixed(t, true)
	times := make([]int, len(g.packets)+1)
	for i, c := range g.courses {
		n := g.of[c.Serials[0]]
		if times[n]++; n == 0 {
			continue
		}
		p := g.packets[n-1]
		arrived := c.Verdict == Delivered || c.Verdict == Merged
		if arrived != p.Arrived || c.Attempt != p.Attempt {
			t.Errorf("packet %d, %+v, is %s, attempt %d:%s", n, p, c.Verdict, c.Attempt, g.describe(i))
		}
	}
	for i, n := range times[1:] {
		if n != 1 {
			t.Errorf("packet %d, %+v, is %d Paths", i+1, g.packets[i], n)
		}
	}
}

// split returns r as runs that begin where cut says, its sightings moved in time.
// A run does not go back in time: the programs begin another one then.
func split(r *collector.Run, move func(hop uint16) uint64, cut func() bool) []*collector.Run {
	var out []*collector.Run
	for i := range r.Len() {
		at, time := r.At(i)
		time += move(at)
		if i == 0 || time < out[len(out)-1].TimeNS || cut() {
			one := &collector.Run{Sighting: r.Sighting}
			one.Hop, one.TimeNS, one.Steps = at, time, 0
			out = append(out, one)
			continue
		}
		last := out[len(out)-1]
		last.Rest[last.Steps] = bpf.Step{Hop: at, DeltaNS: uint32(time - last.TimeNS)}
		last.Steps++
	}
	return out
}
