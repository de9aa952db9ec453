package loader

import (
	"testing"
)

func TestParseHooks(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want Hooks
		err  string
	}{
		{in: ""},
		{in: "tcx", want: Hooks{TC: TCX}},
		{in: "clsact", want: Hooks{TC: Clsact}},
		{in: "xdp", want: Hooks{XDP: XDPNative}},
		{in: "xdpgeneric", want: Hooks{XDP: XDPGeneric}},
		{in: "clsact,xdp", want: Hooks{TC: Clsact, XDP: XDPNative}},
		{in: "xdpgeneric,tcx", want: Hooks{TC: TCX, XDP: XDPGeneric}},
		{in: "tcx,tcx", want: Hooks{TC: TCX}},
		{in: "tcx,clsact", err: `hooks "tcx" and "clsact" exclude each other`},
		{in: "xdp,tcx,xdpgeneric", err: `hooks "xdp" and "xdpgeneric" exclude each other`},
		{in: "none", err: `hook "none" is unknown (want tcx, clsact, xdp, xdpgeneric)`},
		{in: "tcx,", err: `hook "" is unknown (want tcx, clsact, xdp, xdpgeneric)`},
		{in: "TCX", err: `hook "TCX" is unknown (want tcx, clsact, xdp, xdpgeneric)`},
	} {
		got, err := ParseHooks(tc.in)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if got != tc.want || text != tc.err {
			t.Errorf("ParseHooks(%q) = %v, %q, want %v, %q", tc.in, got, text, tc.want, tc.err)
		}
	}
}

func TestHookText(t *testing.T) {
	for h := range hookUnknown {
		text, err := h.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var back Hook
		if err := back.UnmarshalText(text); err != nil || back != h {
			t.Errorf("%d: %q is read as %d, error %v", h, text, back, err)
		}
	}
	if got := hookUnknown.String(); got != "unknown" {
		t.Errorf("a hook that does not exist is %q", got)
	}
}
