# nsbpf: `make help` lists the targets.

GO      ?= go
PREFIX  ?= /usr/local
BINARY  := nsbpf
# Programs that tests and benchmarks compare with, and the packages they are in.
# Building needs none of them.
TOOLS   := ip:iproute2 tc:iproute2 nft:nftables ping:iputils-ping tcpdump:tcpdump \
           bpftool:bpftool sysctl:procps setpriv:util-linux \
           tshark:tshark capinfos:wireshark-common iptables:iptables conntrack:conntrack
SUDO    := $(shell [ "$$(id -u)" = 0 ] || command -v sudo)

.PHONY: help build install generate deps demo test test-root test-kernels lint bench clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build the static binary ./nsbpf
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o $(BINARY) ./cmd/nsbpf

install: build ## install the binary under $(PREFIX)/bin
	install -D -m 0755 $(BINARY) $(DESTDIR)$(PREFIX)/bin/$(BINARY)

deps: ## install the programs that tests compare with (Debian, Ubuntu)
	@missing=; for t in $(TOOLS); do command -v "$${t%:*}" >/dev/null 2>&1 || missing="$$missing $${t#*:}"; done; \
	[ -n "$$missing" ] || exit 0; \
	if ! command -v apt-get >/dev/null 2>&1 || { [ "$$(id -u)" != 0 ] && [ -z "$(SUDO)" ]; }; then \
		echo "not installed, so that some tests are skipped:$$missing (no apt-get, or not root)" >&2; exit 0; fi; \
	echo "installing$$missing"; \
	$(SUDO) apt-get update -qq </dev/null; \
	for p in $$missing; do \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$p </dev/null >/dev/null || \
			echo "$$p cannot be installed here; tests that need it are skipped" >&2; \
	done

generate: ## compile the BPF programs anew (needs clang 14 or later, llvm)
	$(GO) generate ./bpf

demo: build ## build, bring up a network with NAT, trace a ping across it, take it down
	@command -v ping >/dev/null 2>&1 || $(MAKE) --no-print-directory deps
	@$(SUDO) ./examples/demo.sh ./$(BINARY)

test: deps ## run the tests; those of the kernel too where it runs as root
	$(GO) test -p 1 ./...

test-root: deps ## the same as root, where a skipped test is a failure
	$(SUDO) env "PATH=$$PATH" NSBPF_TEST_ROOT=1 $(GO) test -p 1 ./...

test-kernels: ## run nsbpf and its tests on Debian's 6.1 and 6.12, in QEMU (KERNELS=6.1: one)
	GO='$(GO)' ./internal/testenv/kernels/run.sh $(KERNELS)

lint: ## gofmt, vet, staticcheck, tidy
	@bad=$$(gofmt -l .); [ -z "$$bad" ] || { echo "not gofmt'ed: $$bad" >&2; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) mod tidy -diff

bench: deps build ## measure what nsbpf costs, and how fast up and down are (needs root)
	$(SUDO) env "PATH=$$PATH" $(GO) test -run '^$$' -bench . -benchmem ./...
	$(SUDO) ./$(BINARY) bench overhead

clean: ## remove what was built
	rm -f $(BINARY)
