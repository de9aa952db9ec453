package load

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsbpf/nsbpf/internal/netns"
	"github.com/nsbpf/nsbpf/internal/testenv"
)

// pingPong returns the median time, in ns, of a byte there and back by the
// library's sockets, on CPU 0.
func pingPong(t testing.TB, l lab) int64 {
	t.Helper()
	var ln net.Listener
	var conn net.Conn
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(netns.Do(l.right.Netns, func() (err error) { ln, err = net.Listen("tcp", "10.9.0.2:0"); return err }))
	defer ln.Close()
	go func() {
		if c, err := ln.Accept(); err == nil {
			io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
			c.Close()
		}
	}()
	must(netns.Do(l.left.Netns, func() (err error) { conn, err = net.Dial("tcp", ln.Addr().String()); return err }))
	defer conn.Close()
	var times []int64
	buf := make([]byte, 1)
	for range 3000 {
		start := time.Now()
		_, err := conn.Write(buf)
		must(err)
		_, err = io.ReadFull(conn, buf)
		must(err)
		times = append(times, int64(time.Since(start)))
	}
	slices.Sort(times)
	return times[len(times)/2]
}

// iperf3 returns the bits a second of one stream of cubic in a second, with sender
// and receiver on the given CPUs: on one they are twice as fast as on two.
func iperf3(t testing.TB, l lab, sender, receiver int) float64 {
	t.Helper()
	testenv.Tool(t, "iperf3")
	server := exec.Command("ip", "netns", "exec", "right", "iperf3", "-s", "-1", "-p", "5999")
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		server.Process.Signal(unix.SIGINT)
		server.Wait()
	}()
	go io.Copy(io.Discard, out)
	var doc struct {
		Error string
		End   struct {
			Received struct {
				Rate float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		}
	}
	for deadline := time.Now().Add(5 * time.Second); ; {
		b, err := exec.Command("ip", "netns", "exec", "left", "iperf3", "-J", "-C", "cubic", "-t", "1", "-A", fmt.Sprintf("%d,%d", sender, receiver), "-p", "5999", "-c", "10.9.0.2").Output()
		if err == nil {
			err = json.Unmarshal(b, &doc)
		}
		if err == nil && doc.Error == "" {
			return doc.End.Received.Rate
		}
		doc.Error = "" // its server does not listen yet
		if time.Now().After(deadline) {
			t.Fatalf("iperf3: %v\n%s", err, b)
		}
	}
}

// tcpdump finds that the frames of all shapes and flows are as they should be.
func TestFramesOfKernel(t *testing.T) {
	l := newLab(t)
	for _, addrs := range [][2]string{{"10.9.0.1", "10.9.0.2"}, {"fd09::1", "fd09::2"}} {
		dump := exec.Command("ip", "netns", "exec", "right", testenv.Tool(t, "tcpdump"), "-nvv", "--immediate-mode", "-c", "40", "-i", "eth0", "udp dst port 9")
		said, err := dump.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		var seen strings.Builder
		dump.Stdout = &seen
		if err := dump.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(said)
		for line := ""; !strings.Contains(line, "listening"); {
			if line, err = lines.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		s := Spec{Mode: SKB, From: l.left, Via: []Place{l.port("left-br")}, To: l.right, IMIX: true, Flows: 5, Rate: 1000}
		s.From.Addr, s.To.Addr = netip.MustParseAddr(addrs[0]), netip.MustParseAddr(addrs[1])
		run(t, s)
		io.Copy(io.Discard, lines)
		if err := dump.Wait(); err != nil {
			t.Fatal(err)
		}
		text := seen.String()
		if n := strings.Count(text, "udp sum ok"); n != 40 {
			t.Errorf("%d of 40 checksums are right:\n%s", n, text)
		}
		for _, size := range []int{64, 594, 1514} {
			want := fmt.Sprintf("length %d\n", size-headers(s.To.Addr.Is6()))
			if !strings.Contains(text, want) {
				t.Errorf("no frame of %q:\n%s", want, text)
			}
		}
		if !strings.Contains(text, ".32768 > ") || !strings.Contains(text, ".32772 > ") {
			t.Errorf("not all flows:\n%s", text)
		}
	}
}

// TestThroughput is loose: iperf3's own figure is three times as high in some
// runs as in others. BenchmarkTCP compares medians.
func TestThroughput(t *testing.T) {
	l := newLab(t)
	judge := iperf3(t, l, 0, 0)
	before := arrived(t, "right", "eth0").Bytes
	o := run(t, Spec{Mode: TCP, From: l.left, To: l.right, CPUs: []int{0}, Duration: 500 * time.Millisecond})
	if n := arrived(t, "right", "eth0").Bytes - before; n < o.Received.Bytes || n > o.Received.Bytes*11/10 {
		t.Errorf("%d bytes arrived, but the device counted %d", o.Received.Bytes, n)
	}
	if ratio := o.BitRate() / judge; ratio < 0.5 || ratio > 10 {
		t.Errorf("%.3g bit/s, iperf3 says %.3g", o.BitRate(), judge)
	}
	if o.Sent != o.Received && o.LostPackets() == 0 {
		t.Errorf("sent %+v, received %+v, lost %+v", o.Sent, o.Received, o.Lost)
	}
	paced := run(t, Spec{Mode: TCP, From: l.left, To: l.right, Bits: 100e6, Flows: 2, Duration: 500 * time.Millisecond})
	if r := paced.BitRate(); r < 50e6 || r > 110e6 {
		t.Errorf("%.3g bit/s of 100 Mbit/s", r)
	}
}

// BenchmarkTCP measures streams and those of iperf3 in turn.
func BenchmarkTCP(b *testing.B) {
	l := newLab(b)
	for name, cpus := range map[string][]int{"one CPU": {0, 0}, "two CPUs": {0, 1}} {
		b.Run(name, func(b *testing.B) {
			var ours, ratios []float64
			for b.Loop() {
				judge := iperf3(b, l, cpus[0], cpus[1])
				o := run(b, Spec{Mode: TCP, From: l.left, To: l.right, CPUs: cpus, Duration: time.Second})
				ours, ratios = append(ours, o.BitRate()/1e9), append(ratios, o.BitRate()/judge)
			}
			slices.Sort(ours)
			slices.Sort(ratios)
			b.ReportMetric(ratios[len(ratios)/2], "of-iperf3")
			b.ReportMetric(ours[len(ours)/2], "Gbit/s")
		})
	}
}

// BenchmarkPPS measures frames and the kernel's floor in turn.
func BenchmarkPPS(b *testing.B) {
	l := newLab(b)
	s := Spec{Mode: PPS, From: l.left, To: l.port("left-br"), Duration: 300 * time.Millisecond}
	var ratios, rates []float64
	for b.Loop() {
		floor, err := Floor(b.Context(), s)
		if err != nil {
			b.Fatal(err)
		}
		o := run(b, s)
		ratios, rates = append(ratios, o.NSPerPacket()/float64(floor)), append(rates, o.PacketRate()/1e6)
	}
	slices.Sort(ratios)
	slices.Sort(rates)
	b.ReportMetric(ratios[len(ratios)/2], "of-floor")
	b.ReportMetric(rates[len(rates)/2], "Mpps")
}
