package ping

import (
	"os"
	"strings"
	"testing"

	"github.com/nsbpf/nsbpf/internal/netns"
	"github.com/nsbpf/nsbpf/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// Addresses of [wire]: of far itself, one that far routes to nobody, and one that it
// refuses.
var (
	far    = map[string]string{"4": "10.7.0.2", "6": "fd07::2"}
	lost   = map[string]string{"4": "10.10.0.1", "6": "fd10::1"}
	refuse = map[string]string{"4": "10.9.0.1", "6": "fd09::1"}
)

// wire makes two namespaces with a veth pair between them. far forwards, and may
// send as many ICMP errors as it likes.
func wire(t *testing.T) (nearNS, farNS *os.File) {
	t.Helper()
	testenv.Root(t)
	t.Cleanup(func() {
		testenv.Run(t, "ip", "netns", "del", "near")
		testenv.Run(t, "ip", "netns", "del", "far")
	})
	for _, line := range strings.Split(strings.TrimSpace(`
netns add near
netns add far
link add veth0 netns near type veth peer name veth0 netns far
-n near addr add 10.7.0.1/24 dev veth0
-n near addr add fd07::1/64 dev veth0 nodad
-n far addr add 10.7.0.2/24 dev veth0
-n far addr add fd07::2/64 dev veth0 nodad
-n near link set veth0 up
-n far link set veth0 up
-n far link set lo up
-n near route add default via 10.7.0.2
-n near route add default via fd07::2
-n far route add unreachable 10.9.0.0/24
-n far route add 10.10.0.0/24 via 10.7.0.99
-n far route add fd10::/64 via fd07::99
-n far route add unreachable fd09::/64
netns exec far sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
netns exec far sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0`), "\n") {
		testenv.Run(t, "ip", strings.Fields(line)...)
	}
	return open(t, "near"), open(t, "far")
}

func open(t *testing.T, name string) *os.File {
	t.Helper()
	ns, err := netns.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}
