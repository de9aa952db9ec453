package topology

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
)

// Plan is an ordered list of Steps that builds a Topology from nothing.
type Plan []Step

// Step is one change of the kernel. It prints itself as the commands an
// engineer would type; how it is done and undone stands beside it in
// *_linux.go. Steps name namespaces, not nodes: an empty Netns is the namespace
// nsbpf runs in.
type Step interface {
	// Commands returns the lines of shell that do the same, without newlines at
	// their ends; a here-document is one element. Nothing to type is nil.
	Commands() []string
}

// AddNetns makes a named namespace with loopback up and no IPv6 duplicate
// address detection. Its loopback's alias says whose it is: "nsbpf:" and Lab.
type AddNetns struct {
	Netns string `json:"netns"`
	Lab   string `json:"lab"`
}

// SetSysctl sets one key below net. Keys are in dotted form, where a slash
// stands for a dot within a device's name, as sysctl(8) has it.
type SetSysctl struct {
	Netns string `json:"netns,omitempty"`
	Key   string `json:"key"`
	Value string `json:"value"`
}

// AddBridge makes a bridge with a fixed MAC, down.
type AddBridge struct {
	Netns   string `json:"netns,omitempty"`
	Name    string `json:"name"`
	AltName string `json:"altname,omitempty"`
	MAC     string `json:"mac"`
	Group   uint32 `json:"group"`
}

// AddVeth makes a veth pair with both ends in place, down, with one queue each
// way.
type AddVeth struct {
	A     VethEnd `json:"a"`
	B     VethEnd `json:"b"`
	MTU   int     `json:"mtu,omitempty"` // 0: the kernel's choice, 1500
	Group uint32  `json:"group"`
}

// VethEnd is one end of an [AddVeth]. Master, if set, is a bridge of the same
// namespace, and the end then has no IPv6 address of its own.
//
// Index, if not 0, is the interface index that the end is made with. Two ends
// of a pair must not have the same: the kernel then takes the one that comes up
// last for a device that is no veth, puts off its carrier's event
// (linkwatch_urgent_event in net/core/link_watch.c), and IPv6 does not work for
// a second.
type VethEnd struct {
	Netns   string `json:"netns,omitempty"`
	Name    string `json:"name"`
	Index   int    `json:"index,omitempty"`
	AltName string `json:"altname,omitempty"`
	Master  string `json:"master,omitempty"`
}

// AddAddr gives a device an address, without duplicate address detection. An
// IPv4 address comes with its subnet's broadcast address, if that has one.
type AddAddr struct {
	Netns  string       `json:"netns,omitempty"`
	Device string       `json:"device"`
	Addr   netip.Prefix `json:"addr"`
}

// SetUp brings a device up.
type SetUp struct {
	Netns  string `json:"netns,omitempty"`
	Device string `json:"device"`
}

// AddRoute adds a route to the main table.
type AddRoute struct {
	Netns string       `json:"netns,omitempty"`
	Dst   netip.Prefix `json:"dst"`
	Via   netip.Addr   `json:"via"`
}

// AddMasquerade makes the nftables tables (ip, ip6, as Sources has families)
// Table with chain POSTROUTING and one rule a source. NotOut lists the bridges
// whose traffic keeps its source.
type AddMasquerade struct {
	Netns   string         `json:"netns,omitempty"`
	Table   string         `json:"table"`
	Sources []netip.Prefix `json:"sources"`
	NotOut  []string       `json:"not_out,omitempty"`
}

// Path returns the file of the key.
func (s SetSysctl) Path() string {
	swap := strings.NewReplacer(".", "/", "/", ".")
	return "/proc/sys/" + swap.Replace(s.Key)
}

// MarshalStep returns s as a JSON object with one key, the step's type.
func MarshalStep(s Step) ([]byte, error) {
	return json.Marshal(map[string]Step{reflect.TypeOf(s).Name(): s})
}

// UnmarshalStep is the inverse of [MarshalStep].
func UnmarshalStep(b []byte) (Step, error) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(b, &object); err != nil {
		return nil, fmt.Errorf("decoding a step: %w", err)
	}
	if len(object) != 1 {
		return nil, fmt.Errorf("decoding a step: %d keys (want one, the step's type)", len(object))
	}
	for kind, body := range object {
		for _, s := range []any{
			new(AddNetns), new(SetSysctl), new(AddBridge), new(AddVeth), new(AddAddr),
			new(SetUp), new(AddRoute), new(AddMasquerade),
		} {
			v := reflect.ValueOf(s).Elem()
			if v.Type().Name() != kind {
				continue
			}
			if err := json.Unmarshal(body, s); err != nil {
				return nil, fmt.Errorf("decoding a step %s: %w", kind, err)
			}
			return v.Interface().(Step), nil
		}
		return nil, fmt.Errorf("decoding a step: unknown type %q", kind)
	}
	panic("unreachable")
}
