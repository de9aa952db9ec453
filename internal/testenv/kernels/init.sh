#!/bin/sh
# The first process of a kernel that run.sh booted.
export PATH=/bin HOME=/ NSBPF_TEST_ROOT=1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
ip link set lo up

failed=0
check.sh || failed=1

# The tests were written on machines where bridged packets pass the IP hooks, and
# where nothing has to be loaded for a rule: then nft gives it another handle.
modprobe -a br_netfilter nft_ct
while IFS=: read -r package pattern; do
	(
		cd "/src/$package" || exit
		exec "./$(basename "$package").test" -test.short -test.timeout 20m -test.run "$pattern"
	) >/tmp/test.log 2>&1 </dev/null
	code=$?
	echo "test $package: exit $code after $(cut -d. -f1 /proc/uptime) s"
	if [ $code != 0 ]; then
		failed=1
		grep -v '^ok \|^PASS' /tmp/test.log
	fi
done </src/tests
[ $failed = 0 ] && echo 'nsbpf-kernels: all holds' || echo 'nsbpf-kernels: something does not hold'
poweroff -f
