package recording

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/forward"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/trace"
)

// exact compares what has fields that only pad.
var exact = cmp.Options{
	cmp.Comparer(func(a, b collector.Run) bool { return a == b }),
	cmp.Comparer(func(a, b collector.Sighting) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

// fill gives every field that v has a value of its own, from n on.
func fill(v reflect.Value, n *uint64) {
	*n++
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).Name != "_" && v.Type().Field(i).Type.Name() != "HostLayout" {
				fill(v.Field(i), n)
			}
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), n)
		}
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(*n*0x9e3779b97f4a7c15>>(64-v.Type().Bits()) | 1)
	}
}

// filled returns a sighting none of whose fields is 0, but for what a run has.
func filled(n uint64) (s collector.Sighting) {
	fill(reflect.ValueOf(&s).Elem(), &n)
	s.Tracked, s.Steps = 1, 0
	return s
}

// testRun returns a run of some hops, of which nothing else is like that of another n.
func testRun(n uint64, steps int) collector.Run {
	r := collector.Run{Sighting: filled(n)}
	r.Steps = uint8(steps)
	for i := range steps {
		r.Rest[i] = bpf.Step{Hop: uint16(i + 1), DeltaNS: uint32(1000*i) + 1}
	}
	return r
}

func testStart() Start {
	return Start{
		Schema: Schema, Version: "1.2.3", Args: []string{"trace", "-w", "x.ndjson"}, Kernel: "6.18.0", Lab: "nat",
		TimeNS: 1790000000123456789, EpochNS: 1789999000000000001,
		Hops: []hop.Hop{
			{ID: 0, Node: "left", Device: "left-veth", Direction: hop.Egress},
			{ID: 1, Node: "host", Device: "left-br0-veth", Kind: hop.Port},
			{ID: 2, Node: "host", Device: "left-br0-veth", Layer: hop.XDP, Kind: hop.Port},
		},
		Edges:  []hop.Edge{{From: 0, To: 1, Wire: true}, {From: 0, To: 2, Wire: true}},
		Owners: map[string][]netip.Addr{"left": {netip.MustParseAddr("172.16.16.10"), netip.MustParseAddr("fd00::1")}},
		Nodes:  []string{"left", "host"},
		Expr:   "tcp and host <x>", Sample: 8, Rate: 100, Identity: "auto", Hook: "tcx", Explain: true, Unarmed: []string{"nft rules"}, SnapLen: 96, Bare: []hop.ID{7},
	}
}

// testEvents returns one of each kind, and what a real trace has beside.
func testEvents() []Event {
	untracked := testRun(900, 0)
	untracked.Tracked, untracked.Orig = 0, bpf.Tuple{}
	var bare collector.Run
	bare.TimeNS = 1
	mapped := testRun(901, 1)
	mapped.Packet.Src = netip.MustParseAddr("::ffff:10.0.0.1").As16()
	rule := trace.Rule{Family: "inet", Table: "fw", Chain: "fwd", Handle: 4, Text: `udp dport 9999 comment "a > \u0001" drop`, Verdict: "drop"}
	return []Event{
		{Filters: []Filter{{ID: 1, Hop: 2, Expr: "tcp port 80"}}},
		{Node: &forward.Node{
			Name: "host", TimeNS: 5, Devices: []forward.Device{{Name: "eth0", Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}}},
			Rules: []forward.Rule{}, Routes: []forward.Route{}, Sysctls: map[string]string{"net.ipv4.ip_forward": "1"},
		}},
		{Snaps: []collector.Snap{{TimeNS: 7, Skb: 1 << 63, Hop: 2, Length: 100, Bytes: []byte{0, 1, 2, 0xff}}}},
		{Input: &trace.Input{
			Runs:     []collector.Run{testRun(1, 0), testRun(300, 6), untracked, bare, mapped},
			Drops:    []trace.Drop{{Sighting: filled(600), Node: "host", Device: "eth0", Reason: "NETFILTER_DROP", Function: "nf_hook_slow", Callers: []string{"ip_forward"}, Matched: true, Followed: true, Rule: &rule, Step: 2}, {Node: "left", Reason: "NOT_SPECIFIED"}},
			Passages: []trace.Passage{{TimeNS: 9, Skb: 1<<64 - 1, Node: "host", Family: "ip6", Hook: "forward", Last: true, Step: -1}, {Node: "host", Family: "ip", Hook: "input"}},
			Rulings:  []trace.Ruling{{Sighting: filled(700), Node: "host", Hook: "forward", Rule: rule, Step: 3}},
			Until:    1<<63 + 12345,
		}},
		{Input: &trace.Input{}},
		{Path: &Path{JSON: []byte(`{"schema":"nsbpf.path/1","headline":"a > b"}`)}},
		{Filters: []Filter{}},
		{Counts: &collector.Ledgers{Total: filledLedger(30)}},
		{Ledger: []byte(`{"schema":"nsbpf.ledger/1","paths":1}`)},
		{End: &End{
			Ledgers: collector.Ledgers{Total: filledLedger(10), Hops: []collector.HopLedger{{Hop: testStart().Hops[2], Ledger: filledLedger(20)}}, Drops: filledLedger(40), Passages: filledLedger(50)},
			Cost:    collector.Cost{Runs: 1, RunTime: 2, Reader: 3, Elapsed: time.Hour},
		}},
	}
}

func filledLedger(n uint64) (l collector.Ledger) {
	fill(reflect.ValueOf(&l).Elem(), &n)
	return l
}

func write(t testing.TB, start Start, events ...Event) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, start)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if err := w.Write(e); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// read returns copies of all events, and the error that they ended with.
func read(r io.Reader) (start Start, events []Event, err error) {
	l, err := NewReader(r)
	if err != nil {
		return start, nil, err
	}
	for e, err := range l.Events() {
		if err != nil {
			return l.Start(), events, err
		}
		events = append(events, clone(e))
	}
	return l.Start(), events, nil
}

func clone(e Event) Event {
	if e.Input != nil {
		in := *e.Input
		in.Runs = append([]collector.Run(nil), in.Runs...)
		in.Drops = append([]trace.Drop(nil), in.Drops...)
		in.Passages = append([]trace.Passage(nil), in.Passages...)
		in.Rulings = append([]trace.Ruling(nil), in.Rulings...)
		e.Input = &in
	}
	if e.Path != nil {
		e.Path = &Path{JSON: bytes.Clone(e.Path.JSON)}
	}
	return e
}

func TestRoundTrip(t *testing.T) {
	start, events, err := read(bytes.NewReader(write(t, testStart(), testEvents()...)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(testStart(), start, exact); diff != "" {
		t.Errorf("start (-written +read):\n%s", diff)
	}
	if diff := cmp.Diff(testEvents(), events, exact); diff != "" {
		t.Errorf("events (-written +read):\n%s", diff)
	}
}

// Sightings of any content survive.
func TestRoundTripOfRandomRuns(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	in := &trace.Input{Until: 1}
	for range 500 {
		r := testRun(random.Uint64(), random.IntN(bpf.MaxSteps+1))
		if random.IntN(2) == 0 {
			r.Tracked, r.Orig = 0, bpf.Tuple{}
		}
		for _, a := range []*[16]byte{&r.Packet.Src, &r.Packet.Dst} {
			switch random.IntN(3) {
			case 0:
				*a = [16]byte{10: 0xff, 11: 0xff, 12: 10, 15: byte(random.IntN(256))}
			case 1:
				*a = [16]byte{15: byte(random.IntN(2))}
			}
		}
		in.Runs = append(in.Runs, r)
	}
	_, events, err := read(bytes.NewReader(write(t, testStart(), Event{Input: in}, Event{Next: "x"})))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Event{{Input: in}, {Next: "x"}}, events, exact); diff != "" {
		t.Error(diff)
	}
}

func TestWriteNothing(t *testing.T) {
	w, err := NewWriter(io.Discard, testStart())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(Event{}); err == nil {
		t.Error("an event without content was written")
	}
}

func TestReadErrors(t *testing.T) {
	start := string(write(t, testStart()))
	tests := map[string]struct{ in, want string }{
		"empty":           {"", "there is no recording in it"},
		"no recording":    {"{\"a\":1}\n", `line 1: this is no recording of nsbpf (want an object of type "start" and schema "nsbpf.recording/1")`},
		"no JSON":         {"hello\n", `line 1: this is no recording of nsbpf (want an object of type "start" and schema "nsbpf.recording/1")`},
		"later version":   {`{"type":"start","schema":"nsbpf.recording/2","version":"9.0"}`, `line 1: the recording is of schema "nsbpf.recording/2", written by nsbpf 9.0 (this nsbpf reads "nsbpf.recording/1")`},
		"bad start":       {`{"type":"start","schema":"nsbpf.recording/1","hops":3}`, `line 1: "hops" cannot be a number (want []hop.Hop)`},
		"unknown type":    {start + "\n{\"type\":\"siting\"}\n", `line 3: a line of type "siting" is unknown`},
		"no type":         {start + "{}\n", `line 2: a line of type "" is unknown`},
		"syntax":          {start + "{\"type\":\"until\",}\n", "line 2: invalid character '}' looking for beginning of object key string"},
		"bad address":     {start + `{"type":"sighting","src":"10.0.0"}` + "\n", `line 2: "10.0.0" is no IP address`},
		"zone":            {start + `{"type":"sighting","src":"fe80::1%eth0"}` + "\n", `line 2: "fe80::1%eth0" is no IP address`},
		"bad MAC":         {start + `{"type":"sighting","eth_src":"1:2"}` + "\n", `line 2: "1:2" is no Ethernet address`},
		"bad skb":         {start + `{"type":"sighting","skb":"12"}` + "\n", `line 2: "12" is no hexadecimal number (want one like 0x1f)`},
		"long skb":        {start + `{"type":"sighting","skb":"0x12345678901234567"}` + "\n", `line 2: "0x12345678901234567" is no hexadecimal number of 64 bits`},
		"too many steps":  {start + `{"type":"sighting","steps":[{},{},{},{},{},{},{}]}` + "\n", "line 2: a sighting with 7 steps (want at most 6)"},
		"out of range":    {start + `{"type":"sighting","ttl":256}` + "\n", `line 2: "ttl" cannot be a number 256 (want uint8)`},
		"interrupted":     {start + `{"type":"sighting"}` + "\n" + `{"type":"path","path":{}}` + "\n", `line 3: a line of type "path" before the "until" that ends what came before`},
		"without content": {start + `{"type":"node"}` + "\n", `line 2: a line of type "node" without content`},
		"behind the end":  {start + `{"type":"end"}` + "\n" + `{"type":"until"}` + "\n", "line 3: there is a line behind the end"},
		"no end":          {start, ErrCut.Error()},
		"half a line":     {start + `{"type":"until","ti`, ErrCut.Error()},
	}
	for name, c := range tests {
		t.Run(name, func(t *testing.T) {
			_, _, err := read(strings.NewReader(c.in))
			if err == nil || err.Error() != c.want {
				t.Errorf("error %q, want %q", err, c.want)
			}
		})
	}
}

// What was written before a trace was killed is read.
func TestCut(t *testing.T) {
	in := &trace.Input{Runs: []collector.Run{testRun(1, 2), testRun(2, 0), testRun(3, 0)}, Until: 9}
	whole := write(t, testStart(), Event{Input: in}, Event{Ledger: []byte("{}")})
	lines := bytes.SplitAfter(whole, []byte("\n"))
	cut := bytes.Join(lines[:3], nil)
	_, events, err := read(bytes.NewReader(append(cut, lines[3][:40]...)))
	if !errors.Is(err, ErrCut) {
		t.Errorf("error %v, want ErrCut", err)
	}
	if diff := cmp.Diff([]Event{{Input: &trace.Input{Runs: in.Runs[:2]}}}, events, exact); diff != "" {
		t.Error(diff)
	}
}

func FuzzReader(f *testing.F) {
	f.Add(write(f, testStart(), testEvents()...))
	f.Add(write(f, Start{}, Event{Next: "x"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		start, events, err := read(bytes.NewReader(b))
		unchecked := func(e Event) bool { return e.Path != nil && !json.Valid(e.Path.JSON) }
		if err != nil || slices.ContainsFunc(events, unchecked) {
			return
		}
		once := write(t, start, events...)
		start, events, err = read(bytes.NewReader(once))
		if err != nil {
			t.Fatalf("what was written of it cannot be read: %v", err)
		}
		if diff := cmp.Diff(string(once), string(write(t, start, events...))); diff != "" {
			t.Error(diff)
		}
	})
}

func BenchmarkWriter(b *testing.B) {
	w, err := NewWriter(io.Discard, testStart())
	if err != nil {
		b.Fatal(err)
	}
	in := benchInput()
	b.ReportAllocs()
	for b.Loop() {
		if err := w.Write(Event{Input: in}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*len(in.Runs))/b.Elapsed().Seconds(), "runs/s")
}

func BenchmarkReader(b *testing.B) {
	in := benchInput()
	raw := write(b, testStart(), Event{Input: in}, Event{Next: "x"})
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		if _, _, err := read(bytes.NewReader(raw)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*len(in.Runs))/b.Elapsed().Seconds(), "runs/s")
}

func benchInput() *trace.Input {
	in := &trace.Input{Until: 1}
	for i := range 512 {
		r := testRun(uint64(i), 3)
		r.Tracked, r.Orig = 0, bpf.Tuple{}
		r.TimeNS = uint64(time.Hour) + uint64(i)
		p := &r.Packet
		p.Src = netip.MustParseAddr("172.16.16.10").As16()
		p.Dst = netip.MustParseAddr("172.16.16.20").As16()
		p.EtherType, p.Proto, p.NextHdr, p.VLAN, p.FragID, p.FragNext = collector.EtherIPv4, collector.ProtoTCP, 6, 0, 0, 0
		p.ICMPCode, p.ICMPType, p.ICMPID, p.ICMPSeq, r.PayloadHash = 0, 0, 0, 0, 0
		in.Runs = append(in.Runs, r)
	}
	return in
}
