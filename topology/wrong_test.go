package topology

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestWrong has one file with each mistake; a line of want is one mistake.
func TestWrong(t *testing.T) {
	for _, tt := range []struct{ name, src, want string }{
		{
			name: "empty",
			src:  "",
			want: `lab.yaml:1:1: topology is empty (name a node or a link)`,
		},
		{
			name: "comment only",
			src:  "# nothing\n",
			want: `lab.yaml:1:1: topology is empty (name a node or a link)`,
		},
		{
			name: "only a name",
			src:  "name: x",
			want: `lab.yaml:1:1: topology is empty (name a node or a link)`,
		},
		{
			name: "scalar",
			src:  "left",
			want: `lab.yaml:1:1: the topology: want a mapping (key: value)`,
		},
		{
			name: "list",
			src:  "[a, b]",
			want: `lab.yaml:1:1: the topology: want a mapping (key: value)`,
		},
		{
			name: "not yaml",
			src:  "links: [a, b\n",
			want: `lab.yaml:1:8: YAML: sequence end token ']' not found`,
		},
		{
			name: "tab",
			src:  "links:\n\t- [a, b]\n",
			want: `lab.yaml:2:1: YAML: found character '	' that cannot start any token`,
		},
		{
			name: "two documents",
			src:  "links: [[a, b]]\n---\nlinks: []\n",
			want: `lab.yaml:3:1: second YAML document (a file holds one topology)`,
		},
		{
			name: "alias",
			src:  "links: [&x [a, b], *x]",
			want: `lab.yaml:1:9: link: want a mapping (YAML anchors and aliases are not supported)
lab.yaml:1:20: link: want a mapping (YAML anchors and aliases are not supported)`,
		},
		{
			name: "unknown field",
			src:  "link: [[a, b]]",
			want: `lab.yaml:1:1: unknown field "link" in the topology (did you mean "links"?)`,
		},
		{
			name: "unknown field of a node",
			src:  "nodes:\n  a: {adresses: [10.0.0.1/24], speed: 1}",
			want: `lab.yaml:2:7: unknown field "adresses" in node "a" (did you mean "addresses"?)
lab.yaml:2:32: unknown field "speed" in node "a" (known: addresses, routes, forward, masquerade, sysctls)`,
		},
		{
			name: "twice",
			src:  "nodes: {a: , a: }\nnodes: {}",
			want: `lab.yaml:1:14: "a" stands twice in nodes (remove one)
lab.yaml:2:1: "nodes" stands twice in the topology (remove one)`,
		},
		{
			name: "lab name",
			src:  "name: My Lab\nlinks: [[a, b]]",
			want: `lab.yaml:1:7: lab name "My Lab" is not of the form [a-z0-9][a-z0-9-]* (such as "my-lab")`,
		},
		{
			name: "lab name too long",
			src:  "name: " + strings.Repeat("x", 33) + "\nlinks: [[a, b]]",
			want: `lab.yaml:1:7: lab name "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" has 33 bytes (at most 32)`,
		},
		{
			name: "node names",
			src:  "nodes: {.., a/b: , -x: , 'a b': , ok: }",
			want: `lab.yaml:1:9: node name ".." begins with '.' (begin with a letter or digit)
lab.yaml:1:13: node name "a/b" has a '/' (use letters, digits, '-', '_' and '.')
lab.yaml:1:20: node name "-x" begins with '-' (begin with a letter or digit)
lab.yaml:1:26: node name "a b" has a ' ' (use letters, digits, '-', '_' and '.')`,
		},
		{
			name: "node name in a link",
			src:  "links:\n  - [a b, c]\n  - [d/e, f]",
			want: `lab.yaml:2:8: "b" is not an address with a prefix length (such as 10.0.0.1/24 or fd00::1/64)
lab.yaml:3:6: node name "d/e" has a '/' (use letters, digits, '-', '_' and '.')`,
		},
		{
			name: "device names",
			src:  "links:\n  - [a:0123456789abcdef, 'b:x y']\n  - [a:lo, b:e@1]\n  - ['a:', b]",
			want: `lab.yaml:2:8: device name "0123456789abcdef" has 16 bytes (at most 15)
lab.yaml:2:31: "y" is not an address with a prefix length (such as 10.0.0.1/24 or fd00::1/64)
lab.yaml:3:8: device name "lo" is the kernel's own (choose another)
lab.yaml:3:14: device name "e@1" has a '@' (use letters, digits, '-', '_' and '.')
lab.yaml:4:9: end has an empty device name (leave it out to have one made)`,
		},
		{
			name: "device twice",
			src:  "links:\n  - [a:x, b]\n  - [a:x, c]\nbridges: {br: {node: host}}",
			want: `lab.yaml:3:8: device "x" of node "a" is already an end of link "a-b" (rename one)`,
		},
		{
			name: "device of the bridge's name",
			src:  "bridges: {br0: }\nlinks: [[a, br0:br0]]",
			want: `lab.yaml:2:17: device "br0" of node "host" is already a bridge (rename one)`,
		},
		{
			name: "bridge and node",
			src:  "nodes: {x: }\nbridges: {x: }",
			want: `lab.yaml:2:11: "x" is the name of a bridge and of a node (rename one)`,
		},
		{
			name: "bridge on no node",
			src:  "nodes: {left: }\nbridges: {br0: {node: lift}, br1: {node: zzzzzz}}",
			want: `lab.yaml:2:23: bridge "br0": node "lift" does not exist (did you mean "left"?)
lab.yaml:2:42: bridge "br1": node "zzzzzz" does not exist (add it under nodes)`,
		},
		{
			name: "no such bridge",
			src:  "bridges: {br0: }\nlinks:\n  - {a: {node: a}, b: {bridge: br1}}",
			want: `lab.yaml:3:32: bridge "br1" does not exist (did you mean "br0"?)`,
		},
		{
			name: "link of one end",
			src:  "links:\n  - [a]\n  - {a: left}\n  - left",
			want: `lab.yaml:2:5: link has 1 end (write [a, b])
lab.yaml:3:5: link has no end "b" (a link is [a, b] or {a: …, b: …})
lab.yaml:4:5: link: want [a, b] or {a: …, b: …}`,
		},
		{
			name: "ends",
			src:  "links:\n  - a: {device: x}\n    b: {node: a, bridge: br}\n  - ['', ':x']\n  - [a: {node: b}, [c]]",
			want: `lab.yaml:2:8: end has no node and no bridge (such as {node: left})
lab.yaml:3:8: end has node "a" and bridge "br" (a bridge's node is given with the bridge)
lab.yaml:4:6: end is empty (such as "left:eth0 10.0.0.1/24")
lab.yaml:4:10: end has no node (such as "left:eth0 10.0.0.1/24")
lab.yaml:5:6: unknown field "a" in end (known: node, bridge, device, addresses)
lab.yaml:5:6: end has no node and no bridge (such as {node: left})
lab.yaml:5:20: end: want a mapping (key: value)`,
		},
		{
			name: "port with addresses",
			src:  "bridges: {br0: }\nlinks: [[a, br0 10.0.0.1/24]]",
			want: `lab.yaml:2:13: end is a port of bridge "br0" and has addresses (give them to the bridge)`,
		},
		{
			name: "addresses",
			src:  "links:\n  - [a 10.0.0.1 10.0.1.300/24 fd00::1, b 10.0.0.0/24 10.0.3.255/22 224.0.0.1/4 ::/64]",
			want: `lab.yaml:2:8: "10.0.0.1" is not an address with a prefix length (add the prefix length: 10.0.0.1/24)
lab.yaml:2:17: "10.0.1.300/24" is not an address with a prefix length (such as 10.0.0.1/24 or fd00::1/64)
lab.yaml:2:31: "fd00::1" is not an address with a prefix length (add the prefix length: fd00::1/64)
lab.yaml:2:42: 10.0.0.0/24 is the subnet's own address (give an address of one host)
lab.yaml:2:54: 10.0.3.255/22 is the subnet's broadcast address (give an address of one host)
lab.yaml:2:68: 224.0.0.1/4 is a multicast address (give an address of one host)
lab.yaml:2:80: ::/64 is no address (give an address of one host)`,
		},
		{
			name: "address in a list",
			src:  "nodes: {a: {addresses: [fd00::1, ff02::1/64, \"::ffff:1.2.3.4/120\", x, [y]]}}",
			want: `lab.yaml:1:25: "fd00::1" is not an address with a prefix length (add the prefix length: fd00::1/64)
lab.yaml:1:34: ff02::1/64 is a multicast address (give an address of one host)
lab.yaml:1:46: ::ffff:1.2.3.4/120 is an IPv4 address in IPv6's form (give an address of one host)
lab.yaml:1:68: "x" is not an address with a prefix length (such as 10.0.0.1/24 or fd00::1/64)
lab.yaml:1:71: node "a": addresses: want a text`,
		},
		{
			name: "address twice on a node",
			src:  "nodes: {a: {addresses: [10.0.0.1/32]}}\nlinks: [[a 10.0.0.1/24, b]]",
			want: `lab.yaml:2:12: node "a" has 10.0.0.1 twice, on lo and eth0 (remove one)`,
		},
		{
			name: "address twice on a bridge",
			src:  "bridges: {br0: {addresses: [10.0.0.1/24]}}\nlinks:\n  - [a 10.0.0.2/24, br0]\n  - [b 10.0.0.2/24, br0]",
			want: `lab.yaml:4:8: a:eth0 and b:eth0 both have 10.0.0.2 (change one)`,
		},
		{
			name: "overlapping subnets",
			src:  "links:\n  - [a 10.0.0.1/16, b]\n  - [a 10.0.1.1/24, c]",
			want: `lab.yaml:3:8: node "a": subnet 10.0.1.0/24 on eth1 overlaps 10.0.0.0/16 on eth0 (a node routes each subnet by one device)`,
		},
		{
			name: "routes",
			src:  "nodes:\n  a:\n    routes: [default, default via x, 10.1.0.1/16 via 10.0.0.2, 10.1.0.0/16 via fd00::1]\nlinks: [[a 10.0.0.1/24, b]]",
			want: `lab.yaml:3:14: node "a": "default" is not a route (such as default via 10.0.0.1)
lab.yaml:3:23: node "a": next hop "x" is not an address
lab.yaml:3:38: 10.1.0.1/16 has bits behind its prefix (did you mean 10.1.0.0/16?)
lab.yaml:3:64: node "a": route to 10.1.0.0/16 goes via fd00::1 (use one family)`,
		},
		{
			name: "next hops",
			src:  "nodes:\n  a:\n    routes: [default via 10.0.0.2, default via 10.0.0.3, 10.1.0.0/16 via 10.0.0.1, 10.2.0.0/16 via 10.9.0.1]\nlinks: [[a 10.0.0.1/24, b]]",
			want: `lab.yaml:3:36: node "a" has two routes to default (remove one)
lab.yaml:3:58: node "a": next hop 10.0.0.1 is the node itself
lab.yaml:3:84: node "a": next hop 10.9.0.1 is on no subnet of the node`,
		},
		{
			name: "mtu",
			src:  "links:\n  - {a: a, b: b, mtu: 67}\n  - {a: a, b: b, mtu: big}\n  - {a: a fd00::1/64, b: b, mtu: 1279}",
			want: `lab.yaml:2:23: mtu "67" is not a number from 68 to 65535
lab.yaml:3:23: mtu "big" is not a number from 68 to 65535
lab.yaml:4:34: link "a-b": mtu 1279 is too small for its IPv6 addresses (at least 1280)`,
		},
		{
			name: "ring",
			src:  "nodes: {s: }\nbridges: {x: {node: s}, y: {node: s}}\nlinks:\n  - [x, y]\n  - [y, x]\n  - [x, x]",
			want: `lab.yaml:5:5: link "y-x" closes a ring of bridges, where packets would run for ever (bridges have no spanning tree; remove a link)
lab.yaml:6:5: link "x-x" closes a ring of bridges, where packets would run for ever (bridges have no spanning tree; remove a link)`,
		},
		{
			name: "masquerade",
			src:  "nodes: {host: {masquerade: [10.0.0.1/24, all], forward: maybe}}",
			want: `lab.yaml:1:29: 10.0.0.1/24 has bits behind its prefix (did you mean 10.0.0.0/24?)
lab.yaml:1:42: "all" is not a subnet (such as 10.0.0.0/24 or fd00::/64)
lab.yaml:1:57: node "host": forward: want true or false`,
		},
		{
			name: "sysctls",
			src:  "nodes: {a: {sysctls: {kernel.panic: 1, net.ipv4: 1, net.ipv4.conf.eth0.rp_filter: 0, net.ipv4.x: [1], net.ipv4.y: \"a\\nb\"}}}",
			want: `lab.yaml:1:37: node "a": sysctl "kernel.panic" is not a key below net (such as net.ipv4.tcp_ecn)
lab.yaml:1:50: node "a": sysctl "net.ipv4" is not a key below net (such as net.ipv4.tcp_ecn)
lab.yaml:1:83: node "a": sysctl "net.ipv4.conf.eth0.rp_filter" is of a device, which does not exist yet (set it for all or default)
lab.yaml:1:98: node "a": sysctl net.ipv4.x: want a text
lab.yaml:1:115: node "a": sysctl "net.ipv4.y" has a value of several lines`,
		},
		{
			name: "colon first",
			src:  "nodes: {a: {addresses: [::1/128]}}",
			want: `lab.yaml:1:25: YAML: found an invalid key for this map (quote what begins with a colon)`,
		},
		{
			name: "windows lines",
			src:  "nodes:\r\n  a:\r\n    color: red\r\n",
			want: `lab.yaml:3:5: unknown field "color" in node "a" (known: addresses, routes, forward, masquerade, sysctls)`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			topo, err := Parse("lab.yaml", []byte(tt.src))
			if err == nil {
				t.Fatalf("no error but %+v", topo)
			}
			if diff := cmp.Diff(tt.want, err.Error()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestExcerpt(t *testing.T) {
	_, err := Parse("lab.yaml", []byte("links:\n  - [\"x\", \"ä:x 10.0.0.1\"]\n"))
	if err == nil {
		t.Fatal("no error")
	}
	_, more := Parse("lab.yaml", []byte("links:\n  - ['a:x 10.0.0.1/24', \"b 10.0.0.1/33\"]\n  - {a: x, b: y, mtu: 9}\n"))
	got := explain(errors.Join(err, more, errors.New("of no file")))
	want := `lab.yaml:2:11: node name "ä" has a 'ä' (use letters, digits, '-', '_' and '.')
  2 |   - ["x", "ä:x 10.0.0.1"]
    |           ^
lab.yaml:2:16: "10.0.0.1" is not an address with a prefix length (add the prefix length: 10.0.0.1/24)
  2 |   - ["x", "ä:x 10.0.0.1"]
    |                ^
lab.yaml:2:28: "10.0.0.1/33" is not an address with a prefix length (such as 10.0.0.1/24 or fd00::1/64)
  2 |   - ['a:x 10.0.0.1/24', "b 10.0.0.1/33"]
    |                            ^
lab.yaml:3:23: mtu "9" is not a number from 68 to 65535
  3 |   - {a: x, b: y, mtu: 9}
    |                       ^
of no file
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestExcerptKeepsTabs(t *testing.T) {
	e := &Error{Line: 12, Col: 4, Source: "\t\u00e4\tb"}
	if got, want := e.Excerpt(), "  12 | \tä\tb\n     | \t \t^\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// explain returns err's text with the excerpt of each *[Error] in it below that
// one's line. It ends in a newline.
func explain(err error) string {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var b strings.Builder
		for _, e := range joined.Unwrap() {
			b.WriteString(explain(e))
		}
		return b.String()
	}
	s := err.Error() + "\n"
	var e *Error
	if errors.As(err, &e) {
		s += e.Excerpt()
	}
	return s
}
