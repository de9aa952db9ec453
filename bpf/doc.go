// Package bpf holds the programs in C, the objects compiled from them, and Go
// names for what both sides share. It knows no topology: a hop is a number here.
//
// Building needs no compiler; `make generate` makes the objects anew from the
// C files with clang and records their sources' checksum, which a test compares.
package bpf

//go:generate go tool bpf2go -tags linux -go-package bpf -target bpfel,bpfeb count count.c -- -O2 -g -Wall -Werror -mcpu=v3 -nostdinc
//go:generate go tool bpf2go -tags linux -go-package bpf -target bpfel,bpfeb filter filter.c -- -O2 -g -Wall -Werror -mcpu=v3 -nostdinc
//go:generate go tool bpf2go -tags linux -go-package bpf -target bpfel,bpfeb trace trace.c -- -O2 -g -Wall -Werror -mcpu=v3 -nostdinc
//go:generate go tool bpf2go -tags linux -go-package bpf -target bpfel,bpfeb latency latency.c -- -O2 -g -Wall -Werror -mcpu=v3 -nostdinc
//go:generate go tool bpf2go -tags linux -go-package bpf -target bpfel,bpfeb explain explain.c -- -O2 -g -Wall -Werror -mcpu=v3 -nostdinc
//go:generate go tool bpf2go -tags linux -go-package bpf -target bpfel,bpfeb generate generate.c -- -O2 -g -Wall -Werror -mcpu=v3 -nostdinc
//go:generate go test -run TestSourcesAreGenerated -update .
