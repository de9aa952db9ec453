package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/nsbpf/nsbpf/internal/testenv"
)

// TestGroupsAreHarmless checks that of the packets to groups and to all by which
// hosts find each other none is called dropped, whoever has no use for it: mDNS,
// DHCP, IGMP, MLD, ARP, neighbour discovery.
func TestGroupsAreHarmless(t *testing.T) {
	testenv.Root(t)
	upLab(t, "nat", "--wan")
	tr := startTrace(t, "trace", "nat", "--json", "dropped")
	for node, device := range map[string]string{"left": "left-veth", "host": "br0"} {
		in(t, node, func() error { return sendToGroups(device) })
	}
	warmUp(t)
	out, err := tr.end(os.Interrupt)
	if err != nil {
		t.Fatal(err)
	}
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		var p ended
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		if p.Schema == "nsbpf.path/1" {
			t.Errorf("%s: %+v", p.Verdict, p.Conclusion)
		}
	}
}

// sendToGroups sends datagrams by a device to groups and to all, and joins and
// leaves groups, of which the kernel sends reports.
func sendToGroups(device string) error {
	dev, err := net.InterfaceByName(device)
	if err != nil {
		return err
	}
	byDevice := net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
		return errors.Join(c.Control(func(fd uintptr) {
			err = errors.Join(
				syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_BROADCAST, 1),
				syscall.SetsockoptString(int(fd), syscall.SOL_SOCKET, syscall.SO_BINDTODEVICE, device))
		}), err)
	}}
	for _, to := range []string{
		"224.0.0.251:5353", "239.1.2.3:7000", "224.0.0.1:7001", "255.255.255.255:67", "172.16.16.255:9999",
		"[ff02::fb%" + device + "]:5353", "[ff02::1:2%" + device + "]:547", "[ff02::1%" + device + "]:7001",
	} {
		conn, err := byDevice.Dial("udp", to)
		if err != nil {
			return err
		}
		_, err = conn.Write([]byte("anybody there?"))
		if err := errors.Join(err, conn.Close()); err != nil {
			return err
		}
	}
	for network, group := range map[string]string{"udp4": "239.9.9.9", "udp6": "ff05::99"} {
		conn, err := net.ListenMulticastUDP(network, dev, &net.UDPAddr{IP: net.ParseIP(group), Port: 7002})
		if err != nil {
			return err
		}
		if err := conn.Close(); err != nil {
			return err
		}
	}
	return nil
}
