package forward

import (
	"maps"
	"slices"
)

// linkStats are the fields of struct rtnl_link_stats64 (linux/if_link.h), those
// that count losses by the name that `ip -s -s link` and ethtool have for them.
var linkStats = []string{
	"", "", "", "", "rx_errors", "tx_errors", "rx_dropped", "tx_dropped", "", "", "rx_length_errors",
	"rx_over_errors", "rx_crc_errors", "rx_frame_errors", "rx_fifo_errors", "rx_missed_errors", "tx_aborted_errors",
	"tx_carrier_errors", "tx_fifo_errors", "tx_heartbeat_errors", "tx_window_errors", "", "", "rx_nohandler",
	"rx_otherhost_dropped",
}

// losses returns the counters of a device that are not 0.
func losses(stats []uint64) map[string]uint64 {
	var lost map[string]uint64
	for i, v := range stats {
		if i < len(linkStats) && linkStats[i] != "" && v != 0 {
			if lost == nil {
				lost = map[string]uint64{}
			}
			lost[linkStats[i]] = v
		}
	}
	return lost
}

// Loss is a counter that grew, and what that means.
type Loss struct {
	Name    string `json:"name"`
	Count   uint64 `json:"count"`
	Meaning string `json:"meaning"` // what was lost, in words
}

// DiffCounters returns what grew between two readings of [Counters], sorted by
// name. Counters that [Meaning] knows nothing of are left out.
func DiffCounters(before, after map[string]uint64) []Loss {
	var losses []Loss
	for _, name := range slices.Sorted(maps.Keys(after)) {
		if n, m := after[name], Meaning(name); n > before[name] && m != "" {
			losses = append(losses, Loss{name, n - before[name], m})
		}
	}
	return losses
}

// Meaning says in words which loss a counter counts; "" if it is none. The name
// is one of [Counters].
func Meaning(name string) string {
	if m, ok := meanings[name]; ok {
		return m
	}
	for suffix, m := range deviceMeanings {
		if len(name) > len(suffix) && name[len(name)-len(suffix):] == suffix {
			return m
		}
	}
	return ""
}

// meanings are those of the kernel's MIB counters that grow when a packet is lost
// (net/ipv4/proc.c, net/ipv6/proc.c).
var meanings = map[string]string{
	"Ip.InHdrErrors":             "packets with a broken IPv4 header, or whose TTL was used up",
	"Ip.InAddrErrors":            "packets for an address that is not the node's, which does not forward",
	"Ip.InUnknownProtos":         "packets of a protocol that nobody takes",
	"Ip.InDiscards":              "packets thrown away on their way in, for want of memory or by a rule",
	"Ip.OutDiscards":             "packets thrown away on their way out",
	"Ip.OutNoRoutes":             "packets of the node's own without a route",
	"Ip.ReasmFails":              "fragments that were never put together",
	"Ip.FragFails":               "packets that did not fit and must not be fragmented",
	"Icmp.InErrors":              "broken ICMP messages",
	"Icmp.InCsumErrors":          "ICMP messages with a wrong checksum",
	"Udp.NoPorts":                "UDP packets to a port that nobody listens on",
	"Udp.InErrors":               "UDP packets that the socket did not take",
	"Udp.RcvbufErrors":           "UDP packets for which the socket's receive buffer had no room",
	"Udp.SndbufErrors":           "UDP packets for which the send buffer had no room",
	"Udp.InCsumErrors":           "UDP packets with a wrong checksum",
	"Udp.MemErrors":              "UDP packets for which there was no memory",
	"Tcp.InErrs":                 "broken TCP segments",
	"Tcp.InCsumErrors":           "TCP segments with a wrong checksum",
	"Tcp.AttemptFails":           "TCP connections that were refused or given up",
	"Ip6.InHdrErrors":            "packets with a broken IPv6 header, or whose hop limit was used up",
	"Ip6.InTooBigErrors":         "IPv6 packets that did not fit through the next link",
	"Ip6.InNoRoutes":             "IPv6 packets without a route",
	"Ip6.InAddrErrors":           "IPv6 packets for an address that is not the node's",
	"Ip6.InDiscards":             "IPv6 packets thrown away on their way in",
	"Ip6.OutDiscards":            "IPv6 packets thrown away on their way out",
	"Ip6.OutNoRoutes":            "IPv6 packets of the node's own without a route",
	"Ip6.ReasmFails":             "IPv6 fragments that were never put together",
	"Ip6.FragFails":              "IPv6 packets that could not be cut",
	"Udp6.NoPorts":               "UDP packets over IPv6 to a port that nobody listens on",
	"Udp6.InErrors":              "UDP packets over IPv6 that the socket did not take",
	"Udp6.RcvbufErrors":          "UDP packets over IPv6 for which the receive buffer had no room",
	"Udp6.InCsumErrors":          "UDP packets over IPv6 with a wrong checksum",
	"Icmp6.InErrors":             "broken ICMPv6 messages",
	"Icmp6.InCsumErrors":         "ICMPv6 messages with a wrong checksum",
	"IpExt.InNoRoutes":           "packets without a route",
	"IpExt.InTruncated":          "packets that were cut off",
	"IpExt.InCsumErrors":         "packets with a wrong IPv4 checksum",
	"TcpExt.IPReversePathFilter": "packets that rp_filter took for fakes",
	"TcpExt.ListenDrops":         "connections that a listening socket did not take",
	"TcpExt.ListenOverflows":     "connections for which a listening socket's queue was full",
	"TcpExt.TCPBacklogDrop":      "TCP segments for which a busy socket had no room",
	"TcpExt.TCPRcvQDrop":         "TCP segments for which the receive queue had no room",
	"TcpExt.TCPZeroWindowDrop":   "TCP segments that came while the window was closed",
	"TcpExt.TCPMinTTLDrop":       "TCP segments whose TTL was below the socket's least",
	"TcpExt.TCPReqQFullDrop":     "SYNs for which the queue was full",
	"TcpExt.PAWSActive":          "SYN-ACKs with an old time stamp",
	"TcpExt.PAWSEstab":           "TCP segments with an old time stamp",
	"TcpExt.OutOfWindowIcmps":    "ICMP messages for another part of the connection",
	"TcpExt.LockDroppedIcmps":    "ICMP messages for a busy socket",
	"TcpExt.TCPMD5NotFound":      "TCP segments without the signature",
	"TcpExt.PFMemallocDrop":      "packets for which there was no memory",
	"softnet.dropped":            "packets for which a CPU's backlog was full (net.core.netdev_max_backlog)",
}

// deviceMeanings are those of the counters that each device has.
var deviceMeanings = map[string]string{
	" rx_dropped":           "packets that the device or the stack behind it did not take",
	" tx_dropped":           "packets that the device did not send: it is down, its peer is, or a queue was full",
	" rx_errors":            "packets that came in broken",
	" tx_errors":            "packets that could not be sent",
	" rx_over_errors":       "packets for which the ring was full",
	" rx_missed_errors":     "packets for which the device had no room",
	" tx_carrier_errors":    "packets sent without a carrier",
	" rx_nohandler":         "packets that nobody behind the device wanted",
	" rx_otherhost_dropped": "packets for another MAC address",
	" qdisc_dropped":        "packets that the queue of the device dropped",
}
