package load

import (
	"net/netip"
	"os"
	"testing"

	"github.com/nsbpf/nsbpf/internal/netns"
	"github.com/nsbpf/nsbpf/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// lab is left — host — right, by the commands that an engineer would type.
type lab struct{ left, right, host Place }

// newLab makes two nodes that a bridge joins on the host of the tests.
func newLab(t testing.TB) lab {
	t.Helper()
	testenv.Root(t)
	ip := func(args ...string) { t.Helper(); testenv.Run(t, "ip", args...) }
	ip("link", "add", "br0", "type", "bridge")
	t.Cleanup(func() { ip("link", "del", "br0") })
	l := lab{host: Place{Node: "host", Device: "br0"}}
	for _, n := range []struct {
		at   *Place
		name string
		addr string
	}{{&l.left, "left", "10.9.0.1"}, {&l.right, "right", "10.9.0.2"}} {
		ip("netns", "add", n.name)
		t.Cleanup(func() { ip("netns", "del", n.name) })
		ip("netns", "exec", n.name, "sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
		ip("link", "add", n.name+"-br", "type", "veth", "peer", "name", "eth0", "netns", n.name)
		t.Cleanup(func() { ip("link", "del", n.name+"-br") })
		ip("-n", n.name, "addr", "add", n.addr+"/24", "dev", "eth0")
		ip("-n", n.name, "addr", "add", "fd09::"+n.addr[len(n.addr)-1:]+"/64", "dev", "eth0", "nodad")
		ip("-n", n.name, "link", "set", "lo", "up")
		ip("-n", n.name, "link", "set", "eth0", "up")
		ip("link", "set", n.name+"-br", "master", "br0", "up")
		ns, err := netns.Open(n.name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ns.Close() })
		*n.at = Place{Node: n.name, Netns: ns, Device: "eth0", Addr: netip.MustParseAddr(n.addr)}
	}
	ip("link", "set", "br0", "up")
	testenv.Run(t, "ip", "netns", "exec", "left", "ping", "-qc", "1", "-W", "5", "10.9.0.2")
	return l
}

func (l lab) port(name string) Place { return Place{Node: "host", Device: name} }
