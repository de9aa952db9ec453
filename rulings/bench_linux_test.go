package rulings

import (
	"errors"
	"net"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/nsbpf/nsbpf/internal/netns"
)

func BenchmarkOpen(b *testing.B) {
	network(b)
	in, prog := nodes(b, "a"), selector(b)
	for b.Loop() {
		w, err := Open(in, Config{Lab: "lab", Selects: prog})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func BenchmarkClose(b *testing.B) {
	network(b)
	in, prog := nodes(b, "a"), selector(b)
	for b.Loop() {
		b.StopTimer()
		w, err := Open(in, Config{Lab: "lab", Selects: prog})
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPacket has packets come into a node and end in a blackhole route, behind
// the hook prerouting; ns/op is a packet's.
func BenchmarkPacket(b *testing.B) {
	network(b)
	inNode(b, "r", "ip", "route", "replace", "blackhole", "10.9.9.9")
	for _, c := range []struct {
		name  string
		armed bool
		port  layers.UDPPort
	}{
		{"bare", false, tracedPort + 1},
		{"armed", true, tracedPort + 1},
		{"traced", true, tracedPort},
	} {
		b.Run(c.name, func(b *testing.B) {
			if c.armed {
				open(b, false, "r")
			}
			inject(b, "r", "r-a", c.port)
		})
	}
}

// inject has b.N UDP packets come in by a device of a node.
func inject(b *testing.B, node, device string, port layers.UDPPort) {
	const (
		liveFrames = 1 << 1 // BPF_F_TEST_XDP_LIVE_FRAMES
		xdpPass    = 2
	)
	pass, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type:         ebpf.XDP,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, xdpPass), asm.Return()},
		License:      "Dual BSD/GPL",
	})
	if err != nil {
		b.Fatal(err)
	}
	defer pass.Close()
	ns := namespace(b, node)
	var dev *net.Interface
	if err := netns.Do(ns, func() (err error) { dev, err = net.InterfaceByName(device); return err }); err != nil {
		b.Fatal(err)
	}
	frame := udpFrame(b, dev.HardwareAddr, port)
	err = netns.Do(ns, func() error {
		b.ResetTimer()
		_, err = pass.Run(&ebpf.RunOptions{
			Data:      frame,
			Context:   struct{ Data, DataEnd, Meta, In, Queue, Out uint32 }{DataEnd: uint32(len(frame)), In: uint32(dev.Index)},
			Repeat:    uint32(b.N),
			Flags:     liveFrames,
			BatchSize: 64,
		})
		b.StopTimer()
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
}

func udpFrame(b *testing.B, to net.HardwareAddr, port layers.UDPPort) []byte {
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: net.IP{10, 0, 1, 2}, DstIP: net.IP{10, 9, 9, 9}}
	buf := gopacket.NewSerializeBuffer()
	udp := &layers.UDP{SrcPort: 1, DstPort: port}
	err := errors.Join(udp.SetNetworkLayerForChecksum(ip), gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&layers.Ethernet{DstMAC: to, SrcMAC: macA, EthernetType: layers.EthernetTypeIPv4},
		ip, udp, gopacket.Payload(make([]byte, 22))))
	if err != nil {
		b.Fatal(err)
	}
	return buf.Bytes()
}
