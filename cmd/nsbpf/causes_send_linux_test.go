package main

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/nsbpf/nsbpf/internal/netns"
	"github.com/nsbpf/nsbpf/internal/testenv"
)

const doomedUDP, doomedTCP = 9999, 81

// atHost are the addresses of host's bridge, and wanAddrs those of wan.
var (
	atHost   = [2]string{"172.16.16.1", "fd16::1"}
	wanAddrs = [2]string{"8.8.8.8", "2001:4860:4860::8888"}
)

// pinging pings wan from left.
func pinging(args ...string) sender { return pingingTo(wanAddrs[0], wanAddrs[1], args...) }

func pingingTo(v4, v6 string, args ...string) sender {
	return func(t *testing.T, six bool) {
		to := [2]string{v4, v6}[btoi(six)]
		tried(t, "left", append([]string{"ping", "-nqc1", "-W0.3", to}, args...)...)
	}
}

// udp sends wan that many datagrams from left.
func udp(n int) sender {
	return func(t *testing.T, six bool) {
		in(t, "left", func() error {
			conn, err := net.Dial("udp", net.JoinHostPort(wanAddrs[btoi(six)], "9999"))
			if err != nil {
				return err
			}
			defer conn.Close()
			for range n {
				_, _ = conn.Write(make([]byte, 1000)) // refused: it was tried
			}
			return nil
		})
	}
}

// tcp tries to connect to wan from left.
func tcp(t *testing.T, six bool) {
	in(t, "left", func() error {
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(wanAddrs[btoi(six)], "81"), time.Second)
		if err == nil {
			conn.Close()
		}
		return nil
	})
}

// in runs fn in the namespace of a node.
func in(t *testing.T, node string, fn func() error) {
	t.Helper()
	if err := netns.Do(openNode(t, node), fn); err != nil {
		t.Fatal(err)
	}
}

// tcpAck is TCP with an ACK of a connection that nobody knows.
const tcpAck = layers.IPProtocolTCP

// crafted is a frame that left sends by a packet socket: UDP to wan by host, if
// nothing else is said.
type crafted struct {
	src, dst [2]string // of IPv4 and IPv6
	mac      string    // the destination
	proto    layers.IPProtocol
	mangle   func(frame []byte, six bool)
}

func (c crafted) send(t *testing.T, six bool) {
	t.Helper()
	i := btoi(six)
	if c.mac == "" {
		c.mac = deviceMAC(t, "host", "br0")
	}
	if c.proto == 0 {
		c.proto = layers.IPProtocolUDP
	}
	src, dst := c.src[i], c.dst[i]
	if src == "" {
		src = [2]string{"172.16.16.10", "fd16::10"}[i]
	}
	if dst == "" {
		dst = wanAddrs[i]
	}
	frame := c.frame(t, six, net.ParseIP(src), net.ParseIP(dst), deviceMAC(t, "left", "left-veth"))
	if c.mangle != nil {
		c.mangle(frame, six)
	}
	in(t, "left", func() error { return sendFrame("left-veth", frame) })
}

func (c crafted) frame(t *testing.T, six bool, src, dst net.IP, from string) []byte {
	t.Helper()
	parse := func(s string) net.HardwareAddr {
		mac, err := net.ParseMAC(s)
		if err != nil {
			t.Fatal(err)
		}
		return mac
	}
	eth := &layers.Ethernet{SrcMAC: parse(from), DstMAC: parse(c.mac), EthernetType: layers.EthernetTypeIPv4}
	var ip interface {
		gopacket.NetworkLayer
		gopacket.SerializableLayer
	} = &layers.IPv4{Version: 4, TTL: 64, Protocol: c.proto, SrcIP: src, DstIP: dst}
	if six {
		eth.EthernetType = layers.EthernetTypeIPv6
		ip = &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: c.proto, SrcIP: src, DstIP: dst}
	}
	ls := []gopacket.SerializableLayer{eth, ip}
	switch c.proto {
	case layers.IPProtocolUDP:
		l := &layers.UDP{SrcPort: 40000, DstPort: doomedUDP}
		_ = l.SetNetworkLayerForChecksum(ip) // either is right
		ls = append(ls, l)
	case layers.IPProtocolTCP:
		l := &layers.TCP{SrcPort: 40000, DstPort: doomedTCP, Seq: 100, Ack: 200, ACK: true, Window: 1000}
		_ = l.SetNetworkLayerForChecksum(ip)
		ls = append(ls, l)
	case layers.IPProtocolICMPv4:
		ls = append(ls, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 7, Seq: 1})
	}
	b := gopacket.NewSerializeBuffer()
	options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(b, options, append(ls, gopacket.Payload("nsbpf"))...); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func deviceMAC(t *testing.T, node, device string) string {
	t.Helper()
	return strings.TrimSpace(testenv.Run(t, "nsbpf", "exec", "nat/"+node, "--", "cat", "/sys/class/net/"+device+"/address"))
}

// sendFrame sends a frame by a device of this namespace.
func sendFrame(device string, frame []byte) error {
	ifi, err := net.InterfaceByName(device)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	err = unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: ifi.Index})
	if err == unix.ENETDOWN || err == unix.ENOBUFS {
		return nil // dropped on the way out
	}
	return err
}

// ownFilter drops all at host's port.
func ownFilter(t *testing.T) {
	testenv.Run(t, "nsbpf", "filter", "add", "host:left-br0-veth", "drop", "ip or ip6")
}

// listenUDP opens sockets that nobody reads. With the address "filter" the one
// before takes nothing.
func listenUDP(node string, addrs ...string) func(*testing.T) {
	return func(t *testing.T) {
		var last *net.UDPConn
		for _, a := range addrs {
			if a == "filter" {
				refuseAll(t, last)
				continue
			}
			in(t, node, func() (err error) {
				last, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(a), doomedUDP)))
				return err
			})
			t.Cleanup(func() { last.Close() })
			if err := last.SetReadBuffer(1); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func refuseAll(t *testing.T, conn *net.UDPConn) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	program := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K}}
	control := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
			&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	})
	if err != nil || control != nil {
		t.Fatal(err, control)
	}
}

// foreignXDP attaches a program named guard that drops everything.
func foreignXDP(node, device string, mode link.XDPAttachFlags) func(*testing.T) {
	return func(t *testing.T) {
		program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
			Name: "guard", Type: ebpf.XDP, License: "GPL",
			Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()}, // XDP_DROP
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { program.Close() })
		in(t, node, func() error {
			ifi, err := net.InterfaceByName(device)
			if err != nil {
				return err
			}
			l, err := link.AttachXDP(link.XDPOptions{Program: program, Interface: ifi.Index, Flags: mode})
			if err == nil {
				t.Cleanup(func() { l.Close() })
			}
			return err
		})
	}
}
