package load

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// finish does what the generator does with a shape: it adds the port.
func finish(f frame, size int, port uint16) []byte {
	s := f.shape(size)
	b := make([]byte, size)
	for i, w := range s.Head {
		binary.NativeEndian.PutUint64(b[8*i:], w)
	}
	udp := b[f.transport():]
	binary.BigEndian.PutUint16(udp, port)
	sum := ^sum16(s.Sum + uint32(binary.NativeEndian.Uint16(udp)))
	if sum == 0 {
		sum = 0xffff
	}
	binary.NativeEndian.PutUint16(udp[6:], sum)
	return b
}

// A library that is not ours reads the frames and finds their checksums right.
func TestFrames(t *testing.T) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	for _, addrs := range [][2]string{{"10.0.0.1", "198.19.255.254"}, {"fd00::1", "2001:db8:ffff::fffe"}} {
		f := frame{srcMAC: mac, dstMAC: mac, src: netip.MustParseAddr(addrs[0]), dst: netip.MustParseAddr(addrs[1]), dport: 9}
		for _, size := range []int{64, 65, 594, 1514} {
			for _, port := range []uint16{1, 32768, 49151, 65535} {
				b := finish(f, size, port)
				p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default)
				if p.ErrorLayer() != nil {
					t.Fatalf("%s, %d bytes: %v", addrs[1], size, p.ErrorLayer().Error())
				}
				udp := p.Layer(layers.LayerTypeUDP).(*layers.UDP)
				if udp.SrcPort != layers.UDPPort(port) || udp.DstPort != 9 || int(udp.Length) != size-f.transport() {
					t.Errorf("%s, %d bytes: %d > %d, length %d", addrs[1], size, udp.SrcPort, udp.DstPort, udp.Length)
				}
				if err := udp.SetNetworkLayerForChecksum(p.NetworkLayer()); err != nil {
					t.Fatal(err)
				}
				if err, bad := p.VerifyChecksums(); err != nil || len(bad) > 0 {
					t.Errorf("%s, %d bytes, port %d: checksums %+v, %v", addrs[1], size, port, bad, err)
				}
			}
		}
	}
}
