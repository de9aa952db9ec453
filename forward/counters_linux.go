package forward

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/nsbpf/nsbpf/internal/netns"
	"github.com/nsbpf/nsbpf/internal/rtnl"
	"github.com/nsbpf/nsbpf/topology"
)

// Counters returns the counters of a node: those of /proc/net/snmp and netstat as
// "Udp.NoPorts", of snmp6 as "Udp6.NoPorts", the losses of a device as
// "eth0 rx_dropped" and of its queues as "eth0 qdisc_dropped", and
// "softnet.dropped", which is the machine's. See [DiffCounters].
func Counters(lab *topology.Lab, node string) (map[string]uint64, error) {
	ns, err := lab.Netns(node)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	all := map[string]uint64{}
	if err := deviceCounters(ns, all); err != nil {
		return nil, fmt.Errorf("read counters of %s: %w", node, err)
	}
	err = netns.Do(ns, func() error {
		for _, f := range []struct {
			name string
			read func([]byte, map[string]uint64)
		}{{"snmp", readPairs}, {"netstat", readPairs}, {"snmp6", readSNMP6}, {"softnet_stat", readSoftnet}} {
			b, err := os.ReadFile("/proc/thread-self/net/" + f.name)
			if os.IsNotExist(err) {
				continue // without IPv6
			} else if err != nil {
				return err
			}
			f.read(b, all)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read counters of %s: %w", node, err)
	}
	return all, nil
}

func deviceCounters(ns *os.File, all map[string]uint64) error {
	conn, err := rtnl.Dial(ns)
	if err != nil {
		return err
	}
	defer conn.Close()
	devices, err := conn.Devices()
	if err != nil {
		return err
	}
	names := map[int]string{}
	for _, d := range devices {
		names[d.Index] = d.Name
		for name, v := range losses(d.Stats) {
			all[d.Name+" "+name] = v
		}
	}
	qdiscs, err := conn.Qdiscs()
	for _, q := range qdiscs {
		if q.Drops > 0 {
			all[names[q.Index]+" qdisc_dropped"] += uint64(q.Drops)
		}
	}
	return err
}

// readPairs reads a file of lines in pairs: "Udp: InDatagrams NoPorts" and
// "Udp: 12 3".
func readPairs(b []byte, all map[string]uint64) {
	var names []string
	for line := range strings.Lines(string(b)) {
		words := strings.Fields(line)
		if names == nil {
			names = words
			continue
		}
		for i := 1; i < len(words) && i < len(names); i++ {
			if v, err := strconv.ParseUint(words[i], 10, 64); err == nil {
				all[strings.TrimSuffix(names[0], ":")+"."+names[i]] = v
			}
		}
		names = nil
	}
}

// readSNMP6 reads lines such as "Udp6NoPorts 3".
func readSNMP6(b []byte, all map[string]uint64) {
	for line := range strings.Lines(string(b)) {
		words := strings.Fields(line)
		if len(words) != 2 {
			continue
		}
		head, tail, ok := strings.Cut(words[0], "6")
		if v, err := strconv.ParseUint(words[1], 10, 64); err == nil && ok {
			all[head+"6."+tail] = v
		}
	}
}

// readSoftnet reads a line of hexadecimal numbers for each CPU, of which the
// second counts what its backlog had no room for.
func readSoftnet(b []byte, all map[string]uint64) {
	s := bufio.NewScanner(bytes.NewReader(b))
	for s.Scan() {
		words := strings.Fields(s.Text())
		if len(words) < 2 {
			continue
		}
		if v, err := strconv.ParseUint(words[1], 16, 64); err == nil {
			all["softnet.dropped"] += v
		}
	}
}
