// Package loader puts the BPF programs on the hops of a lab, by the best hook
// the kernel has, and finds and removes them again.
//
// What is to outlive the command is pinned in a bpffs of the lab's own, below
// its directory. Everything else belongs to the process that attached it.
package loader

import (
	"fmt"
	"strings"

	"github.com/nsbpf/nsbpf/internal/hop"
)

// Hook is how a program is attached to a hop.
type Hook uint8

const (
	HookNone    Hook = iota // nothing attached
	TCX                     // Linux 6.6
	Clsact                  // cls_bpf in a clsact qdisc, for older kernels
	XDPNative               // in the driver; on veth it costs its peer GSO
	XDPGeneric              // behind the driver, on a packet already made an skb
	hookUnknown             // keep last
)

var hookNames = [...]string{"none", "tcx", "clsact", "xdp", "xdpgeneric"}

// String returns the word that --hook takes.
func (h Hook) String() string {
	if h < hookUnknown {
		return hookNames[h]
	}
	return "unknown"
}

// MarshalText implements [encoding.TextMarshaler].
func (h Hook) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (h *Hook) UnmarshalText(b []byte) error {
	for i, n := range hookNames {
		if n == string(b) {
			*h = Hook(i)
			return nil
		}
	}
	return fmt.Errorf("hook %q is unknown (want %s)", b, strings.Join(hookNames[1:], ", "))
}

// layer is where on a device the hook looks.
func (h Hook) layer() hop.Layer {
	if h == XDPNative || h == XDPGeneric {
		return hop.XDP
	}
	return hop.TC
}

// Hooks says how programs are attached. The zero value is tcx, or clsact where
// the kernel has no tcx, and no XDP.
type Hooks struct {
	TC  Hook // TCX or Clsact force one; HookNone chooses
	XDP Hook // XDPNative or XDPGeneric count there too
}

// ParseHooks reads a comma-separated list of hooks, as --hook takes it.
func ParseHooks(s string) (Hooks, error) {
	var hs Hooks
	if s == "" {
		return hs, nil
	}
	for _, word := range strings.Split(s, ",") {
		var h Hook
		if err := h.UnmarshalText([]byte(word)); err != nil || h == HookNone {
			return Hooks{}, fmt.Errorf("hook %q is unknown (want %s)", word, strings.Join(hookNames[1:], ", "))
		}
		to := &hs.TC
		if h.layer() == hop.XDP {
			to = &hs.XDP
		}
		if *to != HookNone && *to != h {
			return Hooks{}, fmt.Errorf("hooks %q and %q exclude each other", *to, h)
		}
		*to = h
	}
	return hs, nil
}
