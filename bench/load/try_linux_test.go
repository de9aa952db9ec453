package load

import (
	"testing"
	"time"
	"slices"
)

func TestTry(t *testing.T) {
	l := newLab(t)
	for _, s := range []Spec{
		{Mode: UDP, From: l.left, To: l.right, Rate: 20000},
		{Mode: UDP, From: l.left, To: l.right, Rate: 50000, Threads: 2, Flows: 8},
		{Mode: PPS, From: l.left, To: l.port("left-br"), IMIX: true},
		{Mode: PPS, From: l.left, To: l.port("left-br"), Size: 1514, Flows: 16384, Threads: 2},
	} {
		s.Duration = 500 * time.Millisecond
		o, err := Run(t.Context(), s)
		t.Logf("%s rate %v udp %v gso %v reset %v imix %v via %d: %v", s.Mode, s.Rate, s.OverUDP, s.GSO, s.Reset, s.IMIX, len(s.Via), err)
		if err != nil { continue }
		t.Logf("   sent %v received %v refused %v lost %+v", o.Sent, o.Received, o.Refused, o.Lost)
		t.Logf("   elapsed %v cpu %v %v %v softirq %v busy %v; ns/p %.0f ns/kB %.0f, %.3f Mpps %.3f Gbit/s %v %v %v", o.Elapsed, o.SenderCPU, o.ReceiverCPU, o.Softirqd, o.SoftirqCPU, o.BusyCPU, o.NSPerPacket(), o.NSPerKilobyte(), o.PacketRate()/1e6, o.BitRate()/1e9, o.Sink, o.Congestion, o.Notes)
	}
	var ratios, rates []float64
	for range 11 {
		s := Spec{Mode: PPS, From: l.left, To: l.port("left-br"), Duration: 300*time.Millisecond}
		f, err := Floor(t.Context(), s)
		if err != nil { t.Fatal(err) }
		o, err := Run(t.Context(), s)
		if err != nil { t.Fatal(err) }
		ratios = append(ratios, o.NSPerPacket()/float64(f)) 
		rates = append(rates, o.PacketRate()/1e6)
		t.Logf("floor %v ours %.0f ns %.2f Mpps", f, o.NSPerPacket(), o.PacketRate()/1e6)
	}
	slices.Sort(ratios); slices.Sort(rates)
	t.Logf("ratio median %.3f rate %.2f", ratios[5], rates[5])
}
