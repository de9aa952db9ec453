package hop

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var hops = []Hop{
	{ID: 0, Node: "left", Device: "left-veth", Direction: Ingress},
	{ID: 1, Node: "left", Device: "left-veth", Direction: Egress},
	{ID: 2, Node: "host", Device: "br0", Direction: Ingress, Kind: Bridge},
	{ID: 3, Node: "left", Device: "left-veth", Direction: Ingress, Layer: XDP},
}

func TestFind(t *testing.T) {
	for _, tc := range []struct {
		in    string
		layer Layer
		want  ID
		err   string
	}{
		{in: "left:left-veth", want: 0},
		{in: "left:left-veth out", want: 1},
		{in: "left:left-veth:out", want: 1},
		{in: "left:left-veth:egress", want: 1},
		{in: "left:left-veth", layer: XDP, want: 3},
		{in: "host:br0 in", want: 2},
		{in: "left", err: `hop "left" has no device (want node:device, and in or out)`},
		{in: "left:eth0", err: `hop "left:eth0" does not exist (there are left:left-veth, host:br0)`},
		{in: "left:left-veth up", err: `hop "left:left-veth up": direction "up" (want in or out)`},
		{in: "left:left-veth out", layer: XDP, err: `hop "left:left-veth out": there is no xdp egress at left:left-veth (XDP sees veth ends, and what comes in there)`},
	} {
		got, err := Find(hops, tc.in, tc.layer)
		if tc.err != "" {
			if err == nil || err.Error() != tc.err {
				t.Errorf("Find(%q, %s): error %v, want %s", tc.in, tc.layer, err, tc.err)
			}
			continue
		}
		if err != nil || got.ID != tc.want {
			t.Errorf("Find(%q, %s) = %v, %v; want hop %d", tc.in, tc.layer, got, err, tc.want)
		}
	}
}

func TestHopString(t *testing.T) {
	for _, tc := range []struct {
		hop  Hop
		want string
	}{
		{hops[0], "left:left-veth in"},
		{hops[1], "left:left-veth out"},
		{hops[3], "left:left-veth in xdp"},
	} {
		if got := tc.hop.String(); got != tc.want {
			t.Errorf("String() = %q, want %q", got, tc.want)
		}
	}
}

func TestHopJSON(t *testing.T) {
	b, err := json.Marshal(hops)
	if err != nil {
		t.Fatal(err)
	}
	var back []Hop
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(hops, back); diff != "" {
		t.Errorf("after a round trip through %s (-want +got):\n%s", b, diff)
	}
}
