#!/bin/sh
# Boots Debian's kernels in QEMU, without KVM, and runs nsbpf and the tests of
# its kernel rings in each. Prints what they print; the exit code is 1 if
# something does not hold.
#
#   internal/testenv/kernels/run.sh [6.1 | 6.12 | FILE.deb]…
#
# Everything is kept below $CACHE. apt-get needs the network and, for what is not
# installed, root. What runs inside are init.sh and check.sh.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)

GO=${GO:-go}
CACHE=${CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/nsbpf-kernels}
LIMIT=${LIMIT:-3600}   # seconds for a kernel, all together
MEMORY=${MEMORY:-1024} # MiB
# Run in each kernel after check.sh, each PACKAGE or PACKAGE:PATTERN; none: TESTS=
TESTS=${TESTS-./bpf ./loader ./collector ./topology ./internal/netns ./internal/rtnl ./trace/filter
	./rulings ./forward:TestWalk|TestSett|TestSock|TestLookup|TestCond|TestVerd ./cmd/nsbpf:TestCauses|TestNothingDied}

# Programs of the host's that the checks and the tests compare with.
tools='ip bridge nft tc nstat ping sysctl tcpdump bpftool ethtool setpriv dash modprobe'
# What is built as modules and used, by folder below the kernel's modules.
modules='net lib crypto arch/x86/crypto drivers/net/veth.ko drivers/net/dummy.ko'

PATH=$PATH:/usr/sbin:/sbin

die() {
	echo "run.sh: $*" >&2
	exit 1
}

# install installs the packages of programs that are missing here.
install() {
	missing=
	for pair in qemu-system-x86_64:qemu-system-x86 cpio:cpio depmod:kmod ip:iproute2 nft:nftables \
		ping:iputils-ping sysctl:procps tcpdump:tcpdump bpftool:bpftool ethtool:ethtool setpriv:util-linux dash:dash xz:xz-utils; do
		command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair#*:}"
	done
	[ -e /etc/protocols ] || missing="$missing netbase"
	[ -n "$missing" ] || return 0
	sudo=
	[ "$(id -u)" = 0 ] || sudo=sudo
	# shellcheck disable=SC2086
	$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing </dev/null >&2
}

# unpack downloads a package, unless it is there, and prints where its files are.
unpack() {
	dir=$CACHE/packages/$1
	if [ ! -d "$dir" ]; then
		mkdir -p "$CACHE/packages"
		(cd "$CACHE/packages" && apt-get download -q "$1" >&2)
		extract "$(find "$CACHE/packages" -maxdepth 1 -name "$1_*.deb" | sort -V | tail -n 1)" "$dir"
	fi
	echo "$dir"
}

extract() {
	rm -rf "$2.new"
	dpkg -x "$1" "$2.new"
	mv "$2.new" "$2"
}

# kernel prints where the files of a kernel are: the newest that apt offers of a
# version, or a package's.
kernel() {
	case $1 in
	*.deb)
		dir=$CACHE/packages/$(basename "$1" .deb)
		[ -d "$dir" ] || extract "$1" "$dir"
		echo "$dir"
		return
		;;
	esac
	name=$(apt-cache search --names-only "^linux-image-$1[.].*-cloud-amd64-unsigned\$" | cut -d' ' -f1 | sort -V | tail -n 1)
	[ -n "$name" ] || die "apt offers no kernel $1 (Debian 12 has 6.1 and 6.12; a package's file can be given instead)"
	unpack "$name"
}

# common prints a folder with all that is the same for each kernel.
common() {
	base=$CACHE/common
	rm -rf "$base"
	mkdir -p "$base/bin" "$base/dev" "$base/proc" "$base/sys" "$base/run" "$base/tmp" "$base/etc" "$base/src"
	box=$(unpack busybox-static)/bin/busybox
	for applet in $("$box" --list); do
		ln -s busybox "$base/bin/$applet"
	done
	cp --remove-destination "$box" "$base/bin/busybox"
	for tool in $tools; do
		with_libraries "$(readlink -f "$(command -v "$tool")")" "$base/bin/$tool" "$base"
	done
	ln -sf dash "$base/bin/sh" # that of busybox would run its own ip
	mkdir -p "$base/sbin"
	ln -s ../bin/modprobe "$base/sbin/modprobe" # the kernel asks for modules by this path
	cp "$here/init.sh" "$base/init"
	cp "$here/check.sh" "$base/bin/"
	(
		cd "$root"
		CGO_ENABLED=0 $GO build -o "$base/bin/nsbpf" ./cmd/nsbpf
		for package in $TESTS; do
			CGO_ENABLED=0 $GO test -c -o "$base/src/${package%%:*}/" "${package%%:*}"
		done
		# Tests read files beside them.
		find ./*.md ./*/ \( -path '*/testdata/*' -o -name '*.md' -o -name '*.[ch]' -o -name '*.o' -o -name '*.yaml' -o -name '*.sha256' \) -print |
			cpio -pdm --quiet "$base/src"
	) >&2
	echo "$TESTS" | xargs -rn1 >"$base/src/tests"
	cp /etc/protocols "$base/etc/"                      # names in tcpdump's expressions
	echo 'tcpdump:x:0:0::/:/bin/sh' >"$base/etc/passwd" # who tcpdump wants to be
	echo "$base"
}

# with_libraries copies program $1 to $2, and its libraries to where they are, below $3.
with_libraries() {
	rm -f "$2"
	cp "$1" "$2"
	ldd "$1" 2>/dev/null | grep -o '/[^ ]*' | while read -r library; do
		mkdir -p "$3$(dirname "$library")"
		cp -Ln "$library" "$3$library"
	done
}

# initrd makes the archive that kernel $1 starts from, and prints its path.
initrd() {
	version=$(basename "$1"/lib/modules/*)
	tree=$CACHE/initrd-$version
	rm -rf "$tree"
	cp -a "$2" "$tree"
	for m in $modules; do
		find "$1/lib/modules/$version/kernel/$m"* -name '*.ko*' 2>/dev/null | while read -r from; do
			to=$tree${from#"$1"}
			mkdir -p "$(dirname "$to")"
			case $from in
			*.xz) xz -dc "$from" >"${to%.xz}" ;;
			*) cp "$from" "$to" ;;
			esac
		done
	done
	cp "$1/lib/modules/$version"/modules.builtin* "$1/lib/modules/$version/modules.order" "$tree/lib/modules/$version/"
	depmod -b "$tree" "$version"
	# Not compressed: unpacking is slow in there.
	(cd "$tree" && find . | cpio -o -H newc --quiet -R 0:0) >"$tree.cpio"
	rm -rf "$tree"
	echo "$tree.cpio"
}

# boot runs a kernel to its end. QEMU's CPUs take turns: where each has a thread,
# QEMU before 8.1 goes on with code that another CPU has changed, and the kernel,
# which changes its own for static keys, dies of "Oops: int3".
boot() {
	timeout --foreground "$LIMIT" qemu-system-x86_64 -accel tcg,thread=single -cpu max -smp 2 -m "$MEMORY" \
		-nodefaults -display none -serial stdio -no-reboot \
		-kernel "$(echo "$1"/boot/vmlinuz-*)" -initrd "$2" \
		-append 'console=ttyS0 quiet panic=-1 nohz=off' </dev/null | tee "$2.log"
	grep -q '^nsbpf-kernels: all holds' "$2.log"
}

[ $# -gt 0 ] || set -- 6.1 6.12
install
base=$(common)
failed=
for want; do
	files=$(kernel "$want")
	image=$(initrd "$files" "$base")
	boot "$files" "$image" || failed="$failed $want"
	rm -f "$image"
done
[ -z "$failed" ] || die "something does not hold on$failed"
