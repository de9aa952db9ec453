package main

import (
	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/forward"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/topology"
	"github.com/nsbpf/nsbpf/trace"
)

// kernelNames gives the numbers of drops and passages their names.
type kernelNames struct {
	kernel  *collector.Kernel
	lab     *topology.Lab
	nodes   []string // by number
	devices []map[uint32]string
	symbols map[uint64]string // those that were looked up
	// ours are the devices of the lab's in the real host, which has others; nil if
	// it is no node of the lab.
	ours map[string]bool
	host string
}

func openKernelNames(lab *topology.Lab, nodes []string) (*kernelNames, error) {
	k, err := collector.OpenKernel()
	if err != nil {
		return nil, err
	}
	names := &kernelNames{kernel: k, lab: lab, nodes: nodes, devices: make([]map[uint32]string, len(nodes)), symbols: make(map[uint64]string)}
	if host := lab.Topology.Node(topology.HostNode); host != nil && host.Netns == "" {
		names.host, names.ours = host.Name, make(map[string]bool)
		for _, h := range lab.Topology.Hops(true) {
			if h.Node == host.Name {
				names.ours[h.Device] = true
			}
		}
	}
	return names, nil
}

// drop returns d with names. ok is false of what the real host drops that has to
// do with no device of the lab, and was seen at none of its hops.
func (k *kernelNames) drop(d *bpf.Drop) (_ trace.Drop, ok bool) {
	out := trace.Drop{
		Sighting: collector.Sighting{Sighting: d.Seen},
		Node:     k.node(d.Seen.Hop),
		Reason:   k.kernel.Reason(d.Reason),
		Function: k.symbol(d.Location),
		Matched:  d.Matched != 0,
		Followed: d.Followed != 0,
	}
	out.Device = k.device(d.Seen.Hop, d.IfIndex)
	out.Hop, out.Steps = uint16(hop.None), 0
	for _, at := range d.Callers {
		if at == 0 {
			break
		}
		if s := k.symbol(at); s != "" {
			out.Callers = append(out.Callers, s)
		}
	}
	if out.Node == k.host && k.ours != nil && !out.Followed && !k.ours[out.Device] {
		return out, false
	}
	return out, true
}

// symbol returns the name of the function that an address is in. Of a flood of drops
// all are in few places.
func (k *kernelNames) symbol(at uint64) string {
	s, ok := k.symbols[at]
	if !ok {
		s = k.kernel.Symbol(at)
		k.symbols[at] = s
	}
	return s
}

func (k *kernelNames) passage(p *bpf.Passage) trace.Passage {
	return trace.Passage{
		TimeNS: p.TimeNS, Skb: p.Skb, Node: k.node(p.Node),
		Family: p.FamilyName(), Hook: p.HookName(), Last: p.Last != 0,
	}
}

func (k *kernelNames) node(number uint16) string {
	if int(number) >= len(k.nodes) {
		return ""
	}
	return k.nodes[number]
}

// device returns the name of a node's device, "" if it has none of that index.
func (k *kernelNames) device(node uint16, index uint32) string {
	if int(node) >= len(k.nodes) || index == 0 {
		return ""
	}
	if name, ok := k.devices[node][index]; ok {
		return name
	}
	if k.devices[node] == nil {
		k.devices[node] = make(map[uint32]string)
	}
	k.devices[node][index] = ""
	if n, err := forward.Read(k.lab, k.nodes[node]); err == nil { // else it has no name
		for _, d := range n.Devices {
			k.devices[node][uint32(d.Index)] = d.Name
		}
	}
	return k.devices[node][index]
}
