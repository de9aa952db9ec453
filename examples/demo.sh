#!/bin/sh
# Builds a network with NAT to a simulated outside, follows one ping across it,
# and takes it down again. Nothing of the host is touched.
#
#   sudo ./examples/demo.sh ./nsbpf
set -eu
nsbpf=${1:-nsbpf}
lab=demo-$$

"$nsbpf" up nat --wan --name "$lab"
trap '"$nsbpf" down "$lab"' EXIT
trap 'exit 130' INT TERM

# Two paths: the request and its reply.
"$nsbpf" trace "$lab" icmp -c 2 --for 20s &
trace=$!
"$nsbpf" exec "$lab/left" -- ping -c 3 -i 0.5 8.8.8.8 >/dev/null
wait "$trace"
"$nsbpf" stats "$lab"
