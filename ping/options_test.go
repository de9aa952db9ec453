package ping

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestOptionsCheck(t *testing.T) {
	for want, o := range map[string]Options{
		"": {},
		"count 100001 is out of range (want 1 to 100000)":               {Count: 100001},
		"count -1 is out of range (want 1 to 100000)":                   {Count: -1},
		"interval 1µs is out of range (want 1ms to 1h0m0s)":             {Interval: time.Microsecond},
		"timeout 2h0m0s is out of range (want 1ms to 1h0m0s)":           {Timeout: 2 * time.Hour},
		"TTL 256 is out of range (want 1 to 255)":                       {TTL: 256},
		"icmp has no ports (leave port 80 out, or probe by udp or tcp)": {Port: 80},
		"udp needs a port": {Proto: UDP},
		"a SYN carries no data (leave size 60 out, or probe by icmp or udp)":                               {Proto: TCP, Port: 1, Size: 60},
		"size 19 is too small (a probe is known again by 20 bytes)":                                        {Size: 19},
		"size 65508 is too large (a packet carries at most 65507)":                                         {Proto: UDP, Port: 1, Size: 65508},
		"there is no address to probe":                                                                     {Dst: netip.IPv4Unspecified()},
		"224.0.0.1 is a multicast address (give one host's)":                                               {Dst: netip.MustParseAddr("224.0.0.1")},
		"255.255.255.255 is the broadcast address (give one host's)":                                       {Dst: netip.MustParseAddr("255.255.255.255")},
		"fe80::1 is link-local (give an address that is known beyond one link)":                            {Dst: netip.MustParseAddr("fe80::1")},
		"TTL -1 is out of range (want 1 to 255)\nsize 3 is too small (a probe is known again by 20 bytes)": {TTL: -1, Size: 3},
	} {
		if !o.Dst.IsValid() {
			o.Dst = dst4
		}
		got := ""
		if err := o.WithDefaults().Check(); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%+v: %q, want %q", o, got, want)
		}
	}
}

func TestLength(t *testing.T) {
	got := []int{
		Options{Dst: dst4, Size: 56}.Length(), Options{Dst: dst6, Size: 56}.Length(),
		Options{Dst: dst4, Proto: TCP}.Length(), Options{Dst: dst6, Proto: UDP, Size: 1452}.Length(),
	}
	if d := cmp.Diff([]int{84, 104, 44, 1500}, got); d != "" {
		t.Errorf("lengths (-want +got):\n%s", d)
	}
}

func TestSpread(t *testing.T) {
	for _, tt := range []struct {
		ds   []time.Duration
		want Spread
	}{
		{nil, Spread{}},
		{[]time.Duration{3}, Spread{3, 3, 3}},
		{[]time.Duration{4, 1, 3, 2}, Spread{1, 2, 4}},
		{[]time.Duration{5, 1, 3}, Spread{1, 3, 5}},
	} {
		if got := SpreadOf(tt.ds); got != tt.want {
			t.Errorf("%v: %v, want %v", tt.ds, got, tt.want)
		}
	}
}

func TestResults(t *testing.T) {
	var r Results
	for _, p := range []Probe{
		{Key: Key{Dst: dst4}, Answer: &Answer{Kind: EchoReply, From: dst4, RTT: 5}},
		{Key: Key{Dst: dst4}, Answer: &Answer{Kind: ICMPError, Type: 3, Code: 3, From: dst4, RTT: 7}},
		{Key: Key{Dst: dst4}, Answer: &Answer{Kind: ICMPError, Type: 3, Code: 3, From: router4, RTT: 9}}, // a NAT's
		{Key: Key{Dst: dst6}, Answer: &Answer{Kind: ICMPError, Type: 3, Code: 0, From: dst6}},
		{Key: Key{Dst: dst4}},
		{Key: Key{Dst: dst4}, Err: errors.New("not permitted")},
	} {
		r.Add(&p)
	}
	rtt := r.RTT()
	r.rtts = nil
	if d := cmp.Diff(Results{Sent: 5, Unsent: 1, Answered: 2, Refused: 2}, r, cmp.AllowUnexported(Results{})); d != "" {
		t.Errorf("results (-want +got):\n%s", d)
	}
	if want := (Spread{5, 5, 7}); rtt != want || r.Silent() != 1 {
		t.Errorf("round trips %v, want %v; %d without answer, want 1", rtt, want, r.Silent())
	}
}
