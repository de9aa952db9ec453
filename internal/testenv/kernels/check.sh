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

# start runs nsbpf beside until it sees packets. Its output is in /tmp/lines, and
# what it says about itself in /tmp/talk.
start() {
	: >/tmp/talk # of the last one
	nsbpf "$@" >/tmp/lines 2>/tmp/talk &
	started=$!
	until grep -Eq '^(tracing|timing)' /tmp/talk || ! kill -0 "$started" 2>/dev/null; do :; done
}

# finish ends it.
finish() {
	kill "$started"
	wait "$started"
}

# has checks that a line of the last output matches.
has() {
	check "$1" shows "$2"
}

shows() {
	cat /tmp/lines /tmp/talk
	grep -Eq "$1" /tmp/lines
}

pings() {
	nsbpf exec left -- ping -n -q -c "$2" -i 0.02 -W 5 "$1" >/dev/null
}

# trace follows the packets of left's ping to $1, until two paths are whole.
trace() {
	to=$1
	shift
	start trace "$@" -c 2 --for 30s --strict
	pings "$to" 1
	check "trace $* ends" wait "$started"
	has "trace $*: delivered" '^2 paths, 2 delivered .* lost 0$'
	cat /tmp/lines
}

# part traces a part of the packets of left's pings to $1. Each of those is seen
# all its way.
part() {
	to=$1
	shift
	start trace icmp "$@" -q --strict
	pings "$to" 40
	check "trace $* ends" finish
	has "trace $*: whole paths" '^([1-9][0-9]*) paths?, \1 delivered .* sampled out [1-9][0-9]* [+] lost 0$'
	cat /tmp/lines
}

# stream sends from left to $2 of node $1 by TCP, port 5001.
stream() {
	nsbpf exec "$1" -- nc -l -p 5001 -e sh -c 'cat >/tmp/received' &
	receiver=$!
	until nsbpf exec "$1" -- grep -hq ':1389 ' /proc/net/tcp /proc/net/tcp6; do :; done
	head -c 1000000 /dev/zero | nsbpf exec left -- nc "$2" 5001
	wait "$receiver" && [ "$(wc -c </tmp/received)" = 1000000 ]
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
	trace 8.8.8.8 'icmp and host 172.16.16.10'
	has "a packet that matched is followed behind the translation" '^  wan:eth0  .* delivered'
	part 8.8.8.8 --sample 1/4
	has "a sample tells of all" '^1 of 4 was traced: about'
	part 8.8.8.8 --rate 20
	trace 2001:4860:4860::8888 'icmp6 and host 2001:4860:4860::8888'
	trace 8.8.8.8 'icmp and host 8.8.8.8' --identity fingerprint
	drops host:left-br0-veth
}

xdp() {
	ping_all 172.16.16.20
	prints "stats counts by XDP" "left-veth .* $xdp" nsbpf stats
	trace 172.16.16.20 icmp
	has "trace sees packets at XDP" '^  right:right-veth  xdp '
	start trace tcp --summary --strict
	check "TCP passes" stream right 172.16.16.20
	check "trace tcp --summary ends" finish
	has "trace tcp --summary: delivered" '^([1-9][0-9]*) paths, \1 delivered .* lost 0$'
	has "trace tcp --summary: edges" '^right:right-veth xdp > in +[1-9]'
	cat /tmp/lines
	drops right:right-veth --hook "$xdp"
}

# slow delays what leaves host, by 20 ms.
slow() {
	check "netem" nsbpf exec host -- tc qdisc add dev eth0 root netem delay 20ms
	start stats --latency --for 5s
	pings 8.8.8.8 20
	check "stats --latency ends" wait "$started"
	check "stats --latency has the delay on its edge" delayed
	start trace icmp --summary --strict
	pings 8.8.8.8 20
	check "trace --summary ends" finish
	check "trace --summary has the delay on its edge" delayed
	start trace 'icmp and latency > 15ms' -c 3 --for 30s --strict
	pings 8.8.8.8 3
	check "trace 'latency > 15ms' ends" wait "$started"
	check "trace 'latency > 15ms' shows the requests" [ "$(grep -c '^#.* echo request ' /tmp/lines)" = 3 ]
	cat /tmp/lines
}

# delayed checks which of the edges in the last output have a median of 20 ms and
# more, within the width of a bucket.
delayed() {
	cat /tmp/lines
	[ "$(awk '$2 == ">" && $6 == "ms" && $5 >= 19 {print $1, $2, $3}' /tmp/lines)" = 'host:eth0 > wan:eth0' ]
}

# arrives traces what a command sends to $to, and what comes back, all of which
# arrives, and checks that nothing of it is called anything else.
arrives() {
	start trace "host $to" --strict
	check "$*" "$@"
	check "trace 'host $to' ends" finish
	has "trace 'host $to': delivered" '^[1-9][0-9]* paths?, [1-9][0-9]* delivered'
	check "trace 'host $to': nothing is dropped" alive
}

# alive checks that the last output calls nothing dropped, but what was sent once
# more than needed, and what another packet overtook: TCP throws these away.
alive() {
	cat /tmp/lines
	! grep '✗' /tmp/lines | grep -qvE 'it was sent again, and TCP|its TCP timestamp is older'
}

# dies traces what a command sends to $to, which dies, and checks the sentence
# about it.
dies() {
	want=$1
	shift
	start trace "dst host $to and dropped" -c 1 --for 20s ${explain:+"$explain"}
	"$@" >/dev/null 2>&1
	check "trace of what dies ends" wait "$started"
	has "trace${explain:+ $explain}: $want" "^  ✗ dropped $want"
}

doomed() {
	nsbpf exec left -- ping -nqc1 -W0.5 "$to"
}

udp() {
	nsbpf ping left "$to" -c 1 --proto udp --port 9999
}

# broken breaks host by the command $1, checks that what is said of left's pings to
# wan is $3, and mends it by $2.
broken() {
	check "$1" nsbpf exec host -- sh -ec "$1"
	for to in $wans; do
		dies "$3" doomed
	done
	check "$2" nsbpf exec host -- sh -ec "$2"
	# shellcheck disable=SC2086
	ping_all $wans
}

wans='8.8.8.8 2001:4860:4860::8888'

died() {
	# shellcheck disable=SC2086
	ping_all $wans
	explain=
	for to in $wans; do
		dies 'in wan: nobody listens on UDP port 9999, ' udp
	done
	broken 'ip route del default; ip -6 route del default' \
		'ip route add default via 192.0.2.1; ip -6 route add default via 2001:db8::1' \
		"in host: host has no route to ($(echo "$wans" | tr ' ' '|')), "
	broken 'sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0; ip -6 route replace default via 2001:db8::1' \
		'sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1' \
		'in host: host does not forward IPv(4 [(]net.ipv4.ip_forward|6 [(]net.ipv6.conf.all.forwarding)=0[)], '
	closed='nft add table inet fw; nft add chain inet fw f "{ type filter hook forward priority 0; policy drop; }"'
	broken "$closed" 'nft delete table inet fw' \
		'in host, forward: netfilter; what no rule accepts is dropped by policy of chain f of table inet fw, '
	has "what would tell more is said" '^ .* --explain'
	explain=--explain
	broken "$closed" 'nft delete table inet fw' \
		'in host, forward: chain f of table inet fw has policy drop, and no rule of it accepts the packet, '
	check "what is not seen is said" [ "$(grep -c 'netfilter hooks are not seen' /tmp/talk)" = "$unseen" ]
	cat /tmp/talk
	check "filter add" nsbpf filter add host:left-br0-veth drop 'icmp or icmp6-echo'
	for to in $wans; do
		dies 'by filter 1 at host:left-br0-veth in, ' doomed
	done
	check "filter rm" nsbpf filter rm 1
	start trace --explain
	check "a trace --explain is killed" kill -KILL "$started"
	wait "$started"
}

# lives checks that what arrives is called nothing else, whatever happens to it on
# the way.
lives() {
	for to in $wans; do
		arrives pings "$to" 5
		arrives nsbpf exec left -- ping -n -q -c 2 -i 0.2 -W 5 -s 4000 "$to"
		arrives stream wan "$to"
	done
	check "eth0 cuts segments itself" nsbpf exec host -- ethtool -K eth0 tso off gso off
	for to in $wans; do
		arrives stream wan "$to"
	done
}

# recorded records left's pings to wan in the file $1, and checks that a replay
# prints what the trace did.
recorded() {
	start trace icmp -w "$1" --strict
	pings 8.8.8.8 20
	check "trace -w $1 ends" finish
	check "replay $1 prints the same" replays "$1"
}

replays() {
	nsbpf replay "$1" >/tmp/replayed || return 1
	diff /tmp/lines /tmp/replayed
}

probed() {
	# shellcheck disable=SC2086
	for family in '' -6; do
		prints "ping $family" 'as predicted' nsbpf ping left wan $family -c 2
		prints "ping $family udp" '^probe 1: answered by port unreachable' nsbpf ping left wan $family -c 1 --proto udp --port 9
		prints "ping $family tcp" '^probe 1: answered by RST' nsbpf ping left wan $family -c 1 --proto tcp --port 9
		prints "path $family" '^  wan:eth0  .*delivered' nsbpf path left wan $family
	done
	recorded /tmp/a.pcapng
	recorded /tmp/a.ndjson
	cat /tmp/lines
	check "diff of equal ones" nsbpf diff --exit-code /tmp/a.ndjson /tmp/a.ndjson
	check "a rule that drops" nsbpf exec host -- nft 'table ip fw { chain f { type filter hook forward priority 0; ip daddr 8.8.8.8 drop; }; }'
	recorded /tmp/b.ndjson
	prints "diff" '^✗ dropped now: host, forward: ' nsbpf diff /tmp/a.ndjson /tmp/b.ndjson
	rule='.ip daddr 8.8.8.8 drop.'
	prints "path names the rule" "dropped by $rule" not nsbpf path left wan
	prints "ping names the rule" "dropped in host, forward: rule $rule" not nsbpf ping left wan -c 1 --explain
}

clsact() {
	ping_all 172.16.16.20
	counted clsact
	trace 172.16.16.20 icmp --hook clsact
	start stats --latency --hook clsact --for 3s
	pings 172.16.16.20 5
	check "stats --latency ends" wait "$started"
	has "stats --latency times packets" '^host:left-br0-veth > right-br0-veth +[1-9]'
}

echo "== Linux $(uname -r)"
check doctor nsbpf doctor
cat /tmp/out
hook=clsact unseen=1
grep -q '^✓ tcx' /tmp/out && hook=tcx
grep -q '^✓ netfilter programs' /tmp/out && unseen=0
lab pair pair
lab nat nat --wan
lab died nat --wan
lab probed nat --wan
lab lives nat --wan
for xdp in xdp xdpgeneric; do
	lab xdp pair --hook $xdp
done
lab slow nat --wan
[ $hook = clsact ] || lab clsact bridge --hook clsact
modprobe br_netfilter
lab nat nat --wan
lab lives nat --wan
exit $failed
