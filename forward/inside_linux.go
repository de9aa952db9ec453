package forward

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/nsbpf/nsbpf/internal/rtnl"
)

// Numbers of linux/inet_diag.h and net/tcp_states.h.
const (
	sockDiagByFamily = 20
	diagV6Only       = 11
	tcpClose         = 7 // of a UDP socket: not connected
	tcpListen        = 10
	diagRequestSize  = 56 // struct inet_diag_req_v2
	diagAnswerSize   = 72 // struct inet_diag_msg
)

// readSockets returns the sockets of the calling thread's namespace that anybody
// can send to; nil if the kernel cannot tell.
func readSockets() ([]Socket, error) {
	conn, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, nil)
	if err != nil {
		return nil, fmt.Errorf("list sockets: %w", err)
	}
	defer conn.Close()
	sockets := []Socket{}
	for _, kind := range []struct {
		name         string
		proto, state byte
	}{{"tcp", unix.IPPROTO_TCP, tcpListen}, {"udp", unix.IPPROTO_UDP, tcpClose}} {
		for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
			body := make([]byte, diagRequestSize)
			body[0], body[1] = family, kind.proto
			binary.NativeEndian.PutUint32(body[4:], 1<<kind.state)
			answers, err := conn.Execute(netlink.Message{
				Header: netlink.Header{Type: sockDiagByFamily, Flags: netlink.Request | netlink.Dump},
				Data:   body,
			})
			if errors.Is(err, unix.ENOENT) {
				return nil, nil // it lacks the module
			} else if err != nil {
				return nil, fmt.Errorf("list sockets: %w", err)
			}
			for _, m := range answers {
				if s, ok := parseSocket(kind.name, m.Data); ok {
					sockets = append(sockets, s)
				}
			}
		}
	}
	return sockets, nil
}

func parseSocket(proto string, b []byte) (Socket, bool) {
	if len(b) < diagAnswerSize {
		return Socket{}, false
	}
	size := 4
	if b[0] == unix.AF_INET6 {
		size = 16
	}
	addr, _ := netip.AddrFromSlice(b[8 : 8+size])
	s := Socket{Proto: proto, Addr: addr, Port: binary.BigEndian.Uint16(b[4:])}
	if as, err := netlink.UnmarshalAttributes(b[diagAnswerSize:]); err == nil {
		for _, a := range as {
			if a.Type == diagV6Only && len(a.Data) == 1 {
				s.Only6 = a.Data[0] == 1
			}
		}
	}
	return s, s.Port != 0
}

// readLegacy returns the tables of iptables-legacy in the calling thread's
// namespace. A kernel without it, or that used none yet, has no such files.
func readLegacy() []string {
	var tables []string
	for _, family := range []string{"ip", "ip6"} {
		b, _ := os.ReadFile("/proc/thread-self/net/" + family + "_tables_names")
		for _, name := range strings.Fields(string(b)) {
			tables = append(tables, family+" "+name)
		}
	}
	slices.Sort(tables)
	return tables
}

// readPrograms reads what is attached to the devices. It runs inside the
// namespace.
func (r *reader) readPrograms() error {
	names := programNames{}
	clsact := map[int]bool{}
	qdiscs, err := r.conn.Qdiscs()
	if err != nil {
		return err
	}
	for _, q := range qdiscs {
		if q.Kind == "clsact" || q.Kind == "ingress" {
			clsact[q.Index] = true
		}
	}
	for i, d := range r.devices {
		out := &r.node.Devices[i]
		if d.XDP != 0 {
			out.XDP = names.of(ebpf.ProgramID(d.XDP))
		}
		for _, at := range []struct {
			name   string
			tcx    ebpf.AttachType
			clsact uint32
		}{
			{"ingress", ebpf.AttachTCXIngress, parentIngress},
			{"egress", ebpf.AttachTCXEgress, parentEgress},
		} {
			found, err := link.QueryPrograms(link.QueryOptions{Target: d.Index, Attach: at.tcx})
			if err != nil && !errors.Is(err, ebpf.ErrNotSupported) && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENODEV) {
				return fmt.Errorf("list tcx programs of %s: %w", d.Name, err)
			}
			if err == nil {
				for _, p := range found.Programs {
					out.Programs = append(out.Programs, at.name+" "+names.of(p.ID))
				}
			}
			if !clsact[d.Index] {
				continue
			}
			filters, err := r.conn.Filters(d.Index, at.clsact)
			if err != nil {
				return err
			}
			for _, f := range filters {
				out.Programs = append(out.Programs, at.name+" "+filterName(f))
			}
		}
	}
	return nil
}

// Where clsact has its filters (TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS) and so on).
const (
	parentIngress = 0xfffffff2
	parentEgress  = 0xfffffff3
)

func filterName(f rtnl.Filter) string {
	if f.Name != "" {
		return f.Name
	}
	return f.Kind
}

// programNames remembers the names of programs.
type programNames map[ebpf.ProgramID]string

func (names programNames) of(id ebpf.ProgramID) string {
	if name, ok := names[id]; ok {
		return name
	}
	names[id] = strconv.Itoa(int(id))
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return names[id] // gone, or not to be opened by this user
	}
	defer p.Close()
	if info, err := p.Info(); err == nil && info.Name != "" {
		names[id] = info.Name
	}
	return names[id]
}
