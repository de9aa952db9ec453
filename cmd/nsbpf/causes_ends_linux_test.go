package main

import "github.com/gopacket/gopacket/layers"

func socketFaults() []fault {
	return []fault{
		{name: "no UDP socket", code: "no-socket", send: udp(1), says: same("dropped in wan: nobody listens on UDP port 9999")},
		{
			name: "a UDP socket on loopback only", code: "no-socket", send: udp(1), arrange: listenUDP("wan", "127.0.0.1", "::1"),
			says: [2]string{
				"dropped in wan: nobody listens on UDP port 9999 of 8.8.8.8, only on 127.0.0.1",
				"dropped in wan: nobody listens on UDP port 9999 of 2001:4860:4860::8888, only on ::1",
			},
		},
		{name: "no TCP socket", code: "no-socket", send: tcp, says: same("dropped in wan: nobody listens on TCP port 81")},
		{
			name: "no TCP connection", code: "no-connection", send: crafted{proto: tcpAck}.send,
			says: [2]string{
				"dropped in wan: there is no connection 192.0.2.2 port 40000 to port 81 (any more)",
				"dropped in wan: there is no connection 2001:db8::2 port 40000 to port 81 (any more)",
			},
		},
		{
			name: "a full socket", code: "socket-full", send: udp(40), arrange: listenUDP("wan", "::"),
			says: same("dropped in wan: the receive buffer of the socket on port 9999 was full"),
		},
		{
			name: "a socket's filter", code: "socket-filter", send: udp(1), arrange: listenUDP("wan", "::", "filter"),
			says: same("dropped in wan: the program that listens on port 9999 has a filter (SO_ATTACH_FILTER or BPF) that refused it"),
		},
	}
}

func packetFaults() []fault {
	wrong := func(v4, v6 int) func([]byte, bool) {
		return func(f []byte, six bool) {
			if six {
				f[v6] ^= 0x55
			} else {
				f[v4] ^= 0x55
			}
		}
	}
	return []fault{
		{
			name: "a UDP checksum", code: "checksum", expr: "udp port 9999", send: crafted{dst: atHost, mangle: wrong(40, 60)}.send,
			says: same("dropped in host: its UDP checksum is wrong"),
		},
		{
			name: "a TCP checksum", code: "checksum", expr: "tcp port 81", send: crafted{dst: atHost, proto: tcpAck, mangle: wrong(50, 70)}.send,
			says: same("dropped in host: its TCP checksum is wrong"),
		},
		{
			name: "an ICMP checksum", code: "checksum", expr: "icmp", send: crafted{dst: atHost, proto: layers.IPProtocolICMPv4, mangle: wrong(36, 0)}.send,
			says: [2]string{"dropped in host: its ICMP checksum is wrong"},
		},
		{
			name: "the checksum of an IP header", code: "bad-header", expr: "udp port 9999", send: crafted{dst: atHost, mangle: wrong(24, 0)}.send,
			says: [2]string{"dropped in host: its IP header is wrong (version, length, checksum or addresses)"},
		},
		{
			name: "a length that is too large", code: "bad-header", expr: "host 172.16.16.10 or host fd16::10", send: crafted{dst: atHost, mangle: wrong(16, 18)}.send,
			says: same("dropped in host: its IP header is wrong (version, length, checksum or addresses)"),
		},
		{
			name: "a UDP length that is too large", code: "too-short", expr: "udp port 9999", send: crafted{dst: atHost, mangle: wrong(38, 0)}.send,
			says: [2]string{"dropped in host: it is shorter than its headers say"},
		},
		{
			name: "an IP protocol that nobody takes", code: "unknown-protocol", expr: "src host 172.16.16.10 or src host fd16::10",
			send: crafted{dst: atHost, proto: 200}.send,
			says: same("dropped in host: the kernel there has nothing that takes IP protocol 200"),
		},
	}
}
