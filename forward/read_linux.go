package forward

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/nsbpf/nsbpf/internal/netns"
	"github.com/nsbpf/nsbpf/internal/rtnl"
	"github.com/nsbpf/nsbpf/topology"
)

// ReadNet reads the configuration of all nodes of a lab, two at a time. Which
// veth ends belong together it takes from the kernel.
func ReadNet(lab *topology.Lab) (*Net, error) {
	rs := make([]*reader, len(lab.Topology.Nodes))
	defer func() {
		for _, r := range rs {
			r.close()
		}
	}()
	var g errgroup.Group
	g.SetLimit(2)
	for i, n := range lab.Topology.Nodes {
		g.Go(func() (err error) {
			rs[i], err = read(lab, n.Name)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	net := &Net{}
	for _, r := range rs {
		net.Nodes = append(net.Nodes, r.node)
	}
	return net, pair(rs)
}

// Read reads the configuration of one node. Which veth ends belong together it
// takes from the lab's topology.
func Read(lab *topology.Lab, node string) (*Node, error) {
	r, err := read(lab, node)
	if err != nil {
		return nil, err
	}
	defer r.close()
	for _, l := range lab.Topology.Links {
		for _, e := range [][2]topology.End{{l.A, l.B}, {l.B, l.A}} {
			if d := r.node.Device(e[0].Device); e[0].Node == node && d != nil && d.Kind == "veth" {
				d.Peer = e[1].Node + ":" + e[1].Device
			}
		}
	}
	return r.node, nil
}

// reader reads one node.
type reader struct {
	node    *Node
	ns      *os.File
	conn    *rtnl.Conn
	devices []rtnl.Device
	names   map[int]string // of devices, by index
}

func (r *reader) close() {
	if r == nil {
		return
	}
	r.conn.Close()
	r.ns.Close()
}

func read(lab *topology.Lab, node string) (*reader, error) {
	ns, err := lab.Netns(node)
	if err != nil {
		return nil, err
	}
	conn, err := rtnl.Dial(ns)
	if err != nil {
		ns.Close()
		return nil, fmt.Errorf("read configuration of %s: %w", node, err)
	}
	r := &reader{node: &Node{Name: node, TimeNS: time.Now().UnixNano()}, ns: ns, conn: conn, names: map[int]string{}}
	for _, part := range []func() error{
		r.readDevices, r.readAddrs, r.readRules, r.readRoutes, r.readNeighbours, r.readFDB, r.readTables, r.readInside,
	} {
		if err := part(); err != nil {
			r.close()
			return nil, fmt.Errorf("read configuration of %s: %w", node, err)
		}
	}
	return r, nil
}

func (r *reader) readDevices() (err error) {
	if r.devices, err = r.conn.Devices(); err != nil {
		return err
	}
	for _, d := range r.devices {
		r.names[d.Index] = d.Name
	}
	r.node.Sysctls = map[string]string{}
	for _, d := range r.devices {
		r.node.Devices = append(r.node.Devices, r.device(d))
		r.settings(d)
	}
	return nil
}

var portStates = []string{"disabled", "listening", "learning", "forwarding", "blocking"}

func (r *reader) device(d rtnl.Device) Device {
	out := Device{
		Index: d.Index, Name: d.Name, Kind: d.Kind, MAC: d.MAC.String(), MTU: d.MTU, Up: d.Up, Carrier: d.Running,
		Master: r.names[d.Master], VLANs: d.VLANFiltering, Isolated: d.Isolated, Counters: losses(d.Stats),
	}
	if d.PortState >= 0 && d.PortState < len(portStates) {
		out.Port = portStates[d.PortState]
	} else {
		out.Master = "" // of something else than a bridge
	}
	if d.CallIPTables {
		out.Netfilter = append(out.Netfilter, "ip")
	}
	if d.CallIP6Tables {
		out.Netfilter = append(out.Netfilter, "ip6")
	}
	return out
}

// Places of the settings that decide in what the kernel sends of a device
// (linux/ip.h, less 1; linux/ipv6.h).
var (
	conf4 = map[string]int{
		"forwarding": 0, "proxy_arp": 2, "rp_filter": 7, "arp_ignore": 18, "accept_local": 22, "src_valid_mark": 23, "route_localnet": 25,
	}
	conf6 = map[string]int{"forwarding": 0, "disable_ipv6": 26, "accept_ra": 3}
)

func (r *reader) settings(d rtnl.Device) {
	for name, i := range conf4 {
		if i < len(d.Conf4) {
			r.node.Sysctls["net.ipv4.conf."+d.Name+"."+name] = strconv.Itoa(int(int32(d.Conf4[i])))
		}
	}
	for name, i := range conf6 {
		if i < len(d.Conf6) {
			r.node.Sysctls["net.ipv6.conf."+d.Name+"."+name] = strconv.Itoa(int(int32(d.Conf6[i])))
		}
	}
}

func (r *reader) readAddrs() error {
	addrs, err := r.conn.Addrs()
	for _, a := range addrs {
		if d := r.node.Device(r.names[a.Index]); d != nil && !a.Duplicate {
			d.Addrs = append(d.Addrs, a.Prefix)
		}
	}
	return err
}

var ruleActions = map[uint8]string{1: "table", 2: "goto", 3: "nop", 6: "blackhole", 7: "unreachable", 8: "prohibit"}

func (r *reader) readRules() error {
	rules, err := r.conn.FIBRules()
	for _, f := range rules {
		rule := Rule{
			Family: "ip", Priority: f.Priority, Not: f.Not, From: f.From, To: f.To, IIF: f.IIF, OIF: f.OIF,
			Mark: f.Mark, Mask: f.Mask, TOS: f.TOS, Proto: f.Proto, Sport: f.Sport, Dport: f.Dport,
			Action: ruleActions[f.Action], Table: f.Table, Goto: f.Goto,
		}
		if f.V6 {
			rule.Family = "ip6"
		}
		if f.Suppress >= 0 {
			rule.Suppress = &f.Suppress
		}
		switch {
		case f.L3MDev:
			rule.Other = "a VRF"
		case f.UIDs:
			rule.Other = "the user"
		case f.Tunnel:
			rule.Other = "a tunnel"
		case rule.Action == "":
			rule.Other = fmt.Sprintf("action %d", f.Action)
		}
		r.node.Rules = append(r.node.Rules, rule)
	}
	return err
}

var routeKinds = map[uint8]string{
	unix.RTN_UNICAST: "unicast", unix.RTN_LOCAL: "local", unix.RTN_BROADCAST: "broadcast", unix.RTN_ANYCAST: "anycast",
	unix.RTN_MULTICAST: "multicast", unix.RTN_BLACKHOLE: "blackhole", unix.RTN_UNREACHABLE: "unreachable",
	unix.RTN_PROHIBIT: "prohibit", unix.RTN_THROW: "throw",
}

func (r *reader) readRoutes() error {
	routes, err := r.conn.FIB()
	r.node.Routes = make([]Route, 0, len(routes))
	for _, f := range routes {
		route := Route{
			Table: f.Table, Dst: f.Dst, From: f.From, Kind: routeKinds[f.Kind], Via: f.Via, Device: r.names[f.Index],
			Src: f.Src, Metric: f.Priority, TOS: f.TOS, MTU: f.MTU, Dead: f.Dead,
		}
		for _, h := range f.Hops {
			route.Hops = append(route.Hops, NextHop{Via: h.Via, Device: r.names[h.Index], Dead: h.Dead})
		}
		r.node.Routes = append(r.node.Routes, route)
	}
	return err
}

var neighbourStates = map[uint16]string{
	unix.NUD_INCOMPLETE: "incomplete", unix.NUD_REACHABLE: "reachable", unix.NUD_STALE: "stale", unix.NUD_DELAY: "delay",
	unix.NUD_PROBE: "probe", unix.NUD_FAILED: "failed", unix.NUD_NOARP: "noarp", unix.NUD_PERMANENT: "permanent",
}

func (r *reader) readNeighbours() error {
	ns, err := r.conn.Neighbours()
	for _, n := range ns {
		state := neighbourStates[n.State]
		if !n.Addr.IsValid() || state == "" || state == "noarp" {
			continue
		}
		r.node.Neighbours = append(r.node.Neighbours, Neighbour{
			Addr: n.Addr, Device: r.names[n.Index], MAC: n.MAC.String(), State: state,
		})
	}
	return err
}

// readFDB reads what bridges know. Entries with NTF_MASTER are the bridges', and
// permanent ones are their own addresses.
func (r *reader) readFDB() error {
	if !slices.ContainsFunc(r.devices, func(d rtnl.Device) bool { return d.Kind == "bridge" }) {
		return nil
	}
	entries, err := r.conn.FDB()
	for _, e := range entries {
		bridge := r.node.Device(r.names[e.Master])
		if e.Master == 0 {
			bridge = r.node.Device(r.names[e.Index])
		}
		if bridge == nil || bridge.Kind != "bridge" || len(e.MAC) != 6 || e.MAC[0]&1 != 0 {
			continue
		}
		port := r.names[e.Index]
		if e.State == unix.NUD_PERMANENT {
			port = bridge.Name
		}
		if bridge.FDB == nil {
			bridge.FDB = map[string]string{}
		}
		if mac := e.MAC.String(); bridge.FDB[mac] != bridge.Name {
			bridge.FDB[mac] = port
		}
	}
	return err
}

func (r *reader) readTables() (err error) {
	r.node.Tables, err = readTables(r.ns)
	return err
}

// readInside reads what is only to be had within the namespace.
func (r *reader) readInside() error {
	return netns.Do(r.ns, func() error {
		for _, key := range sysctls {
			// Some kernels lack some: without IPv6, or br_netfilter.
			if b, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(key, ".", "/")); err == nil {
				r.node.Sysctls[key] = strings.TrimSpace(string(b))
			}
		}
		r.node.Legacy = readLegacy()
		var err error
		if r.node.Sockets, err = readSockets(); err != nil {
			return err
		}
		return r.readPrograms()
	})
}

// sysctls are those that decide besides the settings of devices.
var sysctls = []string{
	"net.ipv4.ip_forward",
	"net.ipv4.conf.all.rp_filter",
	"net.ipv4.conf.all.accept_local",
	"net.ipv4.conf.all.route_localnet",
	"net.ipv4.conf.all.arp_ignore",
	"net.ipv4.conf.all.src_valid_mark",
	"net.ipv4.conf.all.forwarding",
	"net.ipv4.icmp_echo_ignore_all",
	"net.ipv6.conf.all.forwarding",
	"net.ipv6.conf.all.disable_ipv6",
	"net.ipv6.icmp.echo_ignore_all",
	"net.bridge.bridge-nf-call-iptables",
	"net.bridge.bridge-nf-call-ip6tables",
}

// pair finds the other ends of veths: of device i whose peer is j, those devices j
// whose peer is i, in the namespace that goes by the right number.
func pair(rs []*reader) error {
	type end struct{ r, d int }
	byIndex := map[[2]int][]end{}
	for i, r := range rs {
		for j, d := range r.devices {
			if d.Kind == "veth" {
				byIndex[[2]int{d.Index, d.Peer}] = append(byIndex[[2]int{d.Index, d.Peer}], end{i, j})
			}
		}
	}
	for _, r := range rs {
		for j, d := range r.devices {
			if d.Kind != "veth" {
				continue
			}
			for _, e := range byIndex[[2]int{d.Peer, d.Index}] {
				other := rs[e.r]
				same, err := r.knows(other, d.PeerNS)
				if err != nil {
					return err
				}
				if same {
					r.node.Devices[j].Peer = other.node.Name + ":" + other.devices[e.d].Name
				}
			}
		}
	}
	return nil
}

// knows says whether number is the one by which r's namespace knows other's.
func (r *reader) knows(other *reader, number int) (bool, error) {
	if r == other || number < 0 {
		return r == other && number < 0, nil
	}
	n, err := r.conn.NamespaceNumber(other.ns.Fd())
	return n == number, err
}
