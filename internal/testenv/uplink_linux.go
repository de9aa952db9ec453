package testenv

import (
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// WAN is the namespace that [Uplink] makes.
const WAN = "test-wan"

// Uplink gives the host of the tests a device eth0 with default routes, IPv4
// and IPv6, to the namespace [WAN], which answers at 8.8.8.8 and
// 2001:4860:4860::8888 and leads nowhere. It is taken away with the test.
func Uplink(t testing.TB) {
	t.Helper()
	Root(t)
	ip := func(args ...string) { t.Helper(); Run(t, "ip", args...) }
	ip("netns", "add", WAN)
	t.Cleanup(func() {
		ip("netns", "del", WAN)
		// What `ip netns` made for its first namespace; in use: of no matter.
		if unix.Unmount("/run/netns", 0) == nil {
			_ = os.Remove("/run/netns")
		}
	})
	ip("netns", "exec", WAN, "sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
	ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", WAN)
	t.Cleanup(func() { ip("link", "del", "eth0") })
	for _, a := range []string{"192.0.2.1/24", "2001:db8::1/64"} {
		ip("-n", WAN, "addr", "add", a, "dev", "eth0")
	}
	for _, a := range []string{"8.8.8.8/32", "2001:4860:4860::8888/128"} {
		ip("-n", WAN, "addr", "add", a, "dev", "lo")
	}
	ip("-n", WAN, "link", "set", "lo", "up")
	ip("-n", WAN, "link", "set", "eth0", "up")
	ip("addr", "add", "192.0.2.2/24", "dev", "eth0")
	ip("addr", "add", "2001:db8::2/64", "dev", "eth0", "nodad")
	ip("link", "set", "eth0", "addrgenmode", "none")
	ip("link", "set", "eth0", "up")
	ip("route", "add", "default", "via", "192.0.2.1")
	ip("-6", "route", "add", "default", "via", "2001:db8::1")
	// The kernel goes on for a while after the commands: it adds routes.
	for deadline := time.Now().Add(10 * time.Second); !uplinkSettled(t); {
		if time.Now().After(deadline) {
			t.Fatal("eth0 does not come up")
		}
	}
}

func uplinkSettled(t testing.TB) bool {
	t.Helper()
	return strings.Contains(Run(t, "ip", "link", "show", "eth0"), "state UP") &&
		strings.Contains(Run(t, "ip", "-6", "route", "show", "table", "local"), "local 2001:db8::2") &&
		strings.Contains(Run(t, "ip", "-6", "route", "show", "table", "local"), "multicast ff00::/8 dev eth0")
}
