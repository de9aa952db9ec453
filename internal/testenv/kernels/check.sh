#!/bin/sh
# Checks that nsbpf does its main jobs on the kernel it runs on, as a user would.
# It changes the host it runs on, so it is for virtual machines.
#
# shellcheck disable=SC2317 # functions are called by their names
set -u
failed=0

# check runs a command and says whether it succeeded; what it printed is shown
# where it did not.
check() {
	what=$1
	shift
	if "$@" >/tmp/out 2>&1; then
		echo "ok   $what"
	else
		echo "FAIL $what: $*"
		sed 's/^/     /' /tmp/out
		failed=1
	fi
}

# refuse is check for a command that has to fail.
refuse() {
	what=$1
	shift
	check "$what" not "$@"
}

not() { ! "$@"; }

# prints checks that the output of a command has a line that matches.
prints() {
	what=$1 want=$2
	shift 2
	check "$what" matches "$want" "$@"
}

matches() {
	want=$1
	shift
	"$@" >/tmp/lines 2>&1 || { cat /tmp/lines; return 1; }
	cat /tmp/lines
	grep -Eq "$want" /tmp/lines
}

# state tells what nsbpf could leave on the host.
state() {
	ip -o link
	ip -o addr
	ip route
	ip -6 route
	nft list ruleset
	ls /run /run/netns 2>/dev/null
	cat /proc/mounts
	sysctl -e net.ipv4.ip_forward net.ipv6.conf.all.forwarding
	bpftool prog list
	bpftool map list
	bpftool link list
}

# lab brings a network up, runs a function on it, takes it down again and checks
# that nothing is left.
lab() {
	body=$1
	shift
	echo "-- nsbpf up $*"
	state >/tmp/before
	check "up $*" nsbpf up "$@"
	cat /tmp/out
	$body
	check "down" nsbpf down
	state >/tmp/after
	check "down leaves nothing" diff /tmp/before /tmp/after
}

ping_all() {
	for to; do
		check "left reaches $to" nsbpf exec left -- ping -n -c 2 -i 0.2 -W 5 "$to"
	done
}

# trace follows the packets of left's ping to $1, until two paths are whole.
trace() {
	to=$1
	shift
	: >/tmp/lines # of the last trace
	nsbpf trace "$@" -c 2 --for 30s --strict >/tmp/lines 2>&1 &
	tracer=$!
	until grep -q '^tracing' /tmp/lines || ! kill -0 "$tracer" 2>/dev/null; do :; done
	nsbpf exec left -- ping -n -c 1 -W 5 "$to" >/dev/null
	check "trace $* ends" wait "$tracer"
	check "trace $*: delivered" grep -q '^2 paths, 2 delivered .* lost 0$' /tmp/lines
	cat /tmp/lines
}

# drops checks that a filter at $1 stops left's pings, and that they pass again.
drops() {
	hop=$1
	shift
	check "filter add" nsbpf filter add "$@" "$hop" drop icmp
	refuse "the filter drops" nsbpf exec left -- ping -n -c 1 -W 2 172.16.16.20
	prints "stats has the drop" 'filter|DROPS' nsbpf stats
	prints "filter ls" ' icmp$' nsbpf filter ls
	cat /tmp/lines
	check "filter rm" nsbpf filter rm 1
	ping_all 172.16.16.20
}

counted() {
	prints "stats counts" 'left:left-veth out +'"$1"' +[1-9]' nsbpf stats
	check "stats --json" nsbpf stats --json
}

pair() {
	ping_all 172.16.16.20 fd16::20
	counted "$hook"
	trace 172.16.16.20 icmp
	drops right:right-veth
}

# seen checks that right sees left's own address, and not that of the bridge.
seen() {
	nsbpf exec right -- tcpdump -lnc 1 -i right-veth 'icmp[icmptype] == icmp-echo' >/tmp/dump 2>/dev/null &
	nsbpf exec left -- ping -n -c 8 -i 0.5 172.16.16.20 >/dev/null
	wait $!
	cat /tmp/dump
	grep -q '172.16.16.10 > 172.16.16.20' /tmp/dump
}

nat() {
	ping_all 172.16.16.20 8.8.8.8 2001:4860:4860::8888
	check "right sees left's address" seen
	counted "$hook"
	trace 8.8.8.8 'icmp and host 8.8.8.8'
	check "trace shows the translation" grep -Eq '^  host:eth0 .* 192.0.2.2 > 8.8.8.8   snat' /tmp/lines
	check "packets are followed by address" not grep -q 'by fingerprint' /tmp/lines
	trace 2001:4860:4860::8888 'icmp6 and host 2001:4860:4860::8888'
	trace 8.8.8.8 'icmp and host 8.8.8.8' --identity fingerprint
	drops host:left-br0-veth
}

xdp() {
	ping_all 172.16.16.20
	prints "stats counts by XDP" 'left-veth .* xdp' nsbpf stats
	drops right:right-veth --hook xdp
}

clsact() {
	ping_all 172.16.16.20
	counted clsact
	trace 172.16.16.20 icmp --hook clsact
}

echo "== Linux $(uname -r)"
check doctor nsbpf doctor
cat /tmp/out
hook=clsact
grep -q '^✓ tcx' /tmp/out && hook=tcx
lab pair pair
lab nat nat --wan
lab xdp pair --hook xdp
[ $hook = clsact ] || lab clsact bridge --hook clsact
modprobe br_netfilter
lab nat nat --wan
exit $failed
