package bench

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/nsbpf/nsbpf/bench/load"
	"github.com/nsbpf/nsbpf/bench/result"
)

// FiguresOf returns what the outcome of a load shows. Only the cost of CPU has a gate:
// the rates of shared machines drift. Generators of frames that keep a rate wait on the
// CPU, so theirs has none. It is an error if nothing arrived, for then there is nothing
// to measure.
func FiguresOf(s load.Spec, o load.Outcome) ([]Figure, error) {
	if o.Received.Packets == 0 {
		return nil, fmt.Errorf("nothing arrived of %d that were sent%s", o.Sent.Packets, whereLost(o.Lost))
	}
	rate := func(unit string, v float64) Figure { return Figure{"rate", unit, result.Higher, false, v} }
	waits := (s.Mode == load.PPS || s.Mode == load.SKB) && s.Rate+s.Bits > 0
	cpu := func(unit string, v float64) Figure { return Figure{"cpu", unit, result.Lower, !waits, v} }
	switch s.Mode {
	case load.TCP:
		return []Figure{rate("bit/s", o.BitRate()), cpu("ns/kB", o.NSPerKilobyte())}, nil
	case load.RR, load.CRR:
		all := []Figure{rate("transactions/s", o.PacketRate()), cpu("ns/transaction", o.NSPerPacket())}
		for _, p := range []struct {
			name string
			q    float64
		}{{"p50", 50}, {"p99", 99}} {
			if o.Latency != nil {
				all = append(all, Figure{p.name, "ns", result.Lower, false, float64(o.Latency.ValueAtQuantile(p.q))})
			}
		}
		return all, nil
	}
	return []Figure{
		rate("pps", o.PacketRate()), cpu("ns/packet", o.NSPerPacket()),
		{"throughput", "bit/s", result.Higher, false, o.BitRate()},
	}, nil
}

func whereLost(lost []load.Loss) string {
	if len(lost) == 0 {
		return ""
	}
	return fmt.Sprintf(": lost in %s", placeOf(lost[0]))
}

// placeOf names where packets were lost, as `netfilter of host (NETFILTER_DROP)`.
func placeOf(l load.Loss) string {
	s := l.Place
	if l.Node != "" {
		s += " of " + l.Node
	}
	if l.Reason != "" {
		s += " (" + l.Reason + ")"
	}
	return s
}

// VariantOf returns what all rounds of a case found together. There must be one.
func VariantOf(c Case, rounds []Round) result.Variant {
	v := result.Variant{Name: c.Name, Settings: c.Settings, Reference: c.Reference, Metrics: metrics(rounds)}
	var all []*load.Outcome
	var latency *hdrhistogram.Histogram
	for _, r := range rounds {
		o := r.Outcome
		if o == nil {
			continue
		}
		all = append(all, o)
		if latency == nil && o.Latency != nil {
			latency = hdrhistogram.New(o.Latency.LowestTrackableValue(), o.Latency.HighestTrackableValue(), int(o.Latency.SignificantFigures()))
		}
		if o.Latency != nil {
			latency.Merge(o.Latency)
		}
	}
	v.Latency = result.NewHistogram(latency)
	v.Account = account(all)
	v.Account.Seen = seen(rounds)
	v.Bottleneck = bottleneck(all)
	return v
}

// metrics returns the figures of all rounds by their names.
func metrics(rounds []Round) []result.Metric {
	if len(rounds) == 0 {
		return nil
	}
	all := make([]result.Metric, len(rounds[0].Figures))
	for i, f := range rounds[0].Figures {
		var samples []float64
		for _, r := range rounds {
			samples = append(samples, r.Figures[i].Value)
		}
		all[i] = result.NewMetric(f.Name, f.Unit, f.Better, f.Gate, samples)
	}
	return all
}

// account sums what became of the packets, the places by how much they lost.
func account(all []*load.Outcome) (a result.Account) {
	lost := make(map[string]uint64)
	for _, o := range all {
		a.Sent += o.Sent.Packets
		a.Received += o.Received.Packets
		for _, l := range o.Lost {
			lost[placeOf(l)] += l.Packets
		}
	}
	for place, n := range lost {
		a.Lost = append(a.Lost, result.Loss{Place: place, Count: n})
	}
	slices.SortFunc(a.Lost, func(x, y result.Loss) int {
		return cmp.Or(cmp.Compare(y.Count, x.Count), cmp.Compare(x.Place, y.Place))
	})
	return a
}

// seen sums what came to the hops, in the order of the path.
func seen(rounds []Round) []result.HopCount {
	var all []result.HopCount
	for _, r := range rounds {
		for _, h := range r.Seen {
			i := slices.IndexFunc(all, func(o result.HopCount) bool { return o.Hop == h.Hop })
			if i < 0 {
				all = append(all, h)
				continue
			}
			all[i].Count += h.Count
		}
	}
	return all
}

// full is the share of its time from which on a CPU has none left.
const full = 0.9

// bottleneck says in a sentence what keeps a path from carrying more, as far as the
// CPUs' times and the losses show it; "" if there is nothing to tell from.
func bottleneck(all []*load.Outcome) string {
	if len(all) == 0 {
		return ""
	}
	var sender, receiver, elapsed time.Duration
	var sent, lost uint64
	for _, o := range all {
		sender += o.SenderCPU
		receiver += o.ReceiverCPU
		elapsed += o.Elapsed
		sent += o.Sent.Packets
		lost += o.LostPackets()
	}
	busy := func(t time.Duration, cpus []int) float64 {
		if elapsed == 0 || len(cpus) == 0 {
			return 0
		}
		return min(float64(t)/float64(elapsed)/float64(len(cpus)), 1)
	}
	o := all[0]
	s, r := busy(sender, o.Senders), busy(receiver, o.Receivers)
	end := ""
	if a := account(all); lost*100 > sent && len(a.Lost) > 0 {
		end = fmt.Sprintf("; %.0f %% are lost, most in %s", 100*float64(lost)/float64(sent), a.Lost[0].Place)
	}
	switch {
	case slices.Equal(o.Senders, o.Receivers) && len(o.Receivers) > 0 && s+r >= full:
		return fmt.Sprintf("%s is full: the sender takes %.0f %%, the receiver %.0f %%%s", cpuNames(o.Senders), 100*s, 100*r, end)
	case s >= full && s >= r:
		return fmt.Sprintf("the sender's %s is full (%.0f %%), with what the path does for it%s", cpuNames(o.Senders), 100*s, end)
	case r >= full:
		return fmt.Sprintf("the receiver's %s is full (%.0f %%)%s", cpuNames(o.Receivers), 100*r, end)
	}
	return fmt.Sprintf("no CPU of the load is full (sender %.0f %%, receiver %.0f %%)%s", 100*s, 100*r, end)
}

func cpuNames(cpus []int) string {
	word := "CPU"
	unique := slices.Compact(slices.Sorted(slices.Values(cpus)))
	if len(unique) > 1 {
		word = "CPUs"
	}
	s := fmt.Sprint(unique)
	return word + " " + s[1:len(s)-1]
}

// limited says by how much the generators missed the rate that was asked of them,
// "" if they did not.
func limited(s load.Spec, all []*load.Outcome) string {
	const most = 0.95
	var got, want float64
	for _, o := range all {
		if s.Bits > 0 {
			got += float64(o.Sent.Bytes) * 8
			want += s.Bits * o.Elapsed.Seconds()
		} else {
			got += float64(o.Sent.Packets)
			want += s.Rate * o.Elapsed.Seconds()
		}
	}
	if want == 0 || got >= most*want {
		return ""
	}
	return fmt.Sprintf("the generator sent %.0f %% of the rate that was asked for", 100*got/want)
}

// Fill enters what was measured into d: a variant for each case but the one named
// again, which is the first case once more and shows the noise.
func Fill(d *result.Document, cases []Case, rounds [][]Round, again string) {
	var second *result.Variant
	for i, c := range cases {
		v := VariantOf(c, rounds[i])
		if c.Name == again {
			second = &v
			continue
		}
		v.Limited = limited(c.Load, outcomes(rounds[i]))
		d.Variants = append(d.Variants, v)
		for _, o := range outcomes(rounds[i]) {
			for _, n := range o.Notes {
				if !slices.Contains(d.Notes, n) {
					d.Notes = append(d.Notes, n)
				}
			}
		}
	}
	if second != nil {
		d.Noise = result.NewNoise(&d.Variants[0], second)
	}
}

func outcomes(rounds []Round) (all []*load.Outcome) {
	for _, r := range rounds {
		if r.Outcome != nil {
			all = append(all, r.Outcome)
		}
	}
	return all
}
