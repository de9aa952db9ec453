package collector

import (
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/internal/hop"
)

// ReadSnapshot reads the counters of hops from m, which is [bpf.MapCounts].
func ReadSnapshot(m *ebpf.Map, hops []hop.Hop) (Snapshot, error) {
	s := Snapshot{Hops: make([]HopCount, len(hops))}
	perCPU, cpus, err := readPerCPU[bpf.Count](m)
	if err != nil {
		return Snapshot{}, err
	}
	s.Time = time.Now()
	for i, h := range hops {
		s.Hops[i].Hop = h
		for r := range bpf.ReasonCount {
			values, err := ofIndex(perCPU, cpus, bpf.CountIndex(h.ID, r))
			if err != nil {
				return Snapshot{}, fmt.Errorf("reading the counters of %s: %w", h, err)
			}
			sum := &s.Hops[i].ByReason[r]
			for _, c := range values {
				*sum = sum.Add(Count(c))
			}
		}
	}
	return s, nil
}

// ReadLedgers reads the ledgers of hops from m, which is [bpf.MapLedgers] with room
// for [bpf.OtherLedgers] behind those of all hops.
func ReadLedgers(m *ebpf.Map, hops []hop.Hop) (Ledgers, error) {
	perCPU, cpus, err := readPerCPU[bpf.Ledger](m)
	if err != nil {
		return Ledgers{}, err
	}
	others := len(perCPU) - bpf.OtherLedgers*cpus
	if others < 0 {
		return Ledgers{}, fmt.Errorf("reading %s: no room for ledgers that are of no hop", m)
	}
	out := Ledgers{
		Hops:     make([]HopLedger, len(hops)),
		Drops:    sumLedgers(perCPU[others+bpf.LedgerDrops*cpus:][:cpus]),
		Passages: sumLedgers(perCPU[others+bpf.LedgerPassages*cpus:][:cpus]),
	}
	for i, h := range hops {
		values, err := ofIndex(perCPU[:others], cpus, uint32(h.ID))
		if err != nil {
			return Ledgers{}, fmt.Errorf("reading the ledger of %s: %w", h, err)
		}
		out.Hops[i] = HopLedger{h, sumLedgers(values)}
		out.Total = out.Total.Add(out.Hops[i].Ledger)
	}
	return out, nil
}

func sumLedgers(values []bpf.Ledger) (sum Ledger) {
	for _, l := range values {
		sum = sum.Add(Ledger(l))
	}
	return sum
}

// readPerCPU returns the values of a per-CPU array, index by index and within
// one by CPU, and how many CPUs there are.
func readPerCPU[V any](m *ebpf.Map) (values []V, cpus int, err error) {
	cpus, err = ebpf.PossibleCPU()
	if err != nil {
		return nil, 0, err
	}
	n := int(m.MaxEntries())
	keys := make([]uint32, n)
	values = make([]V, n*cpus)
	var cursor ebpf.MapBatchCursor
	got, err := m.BatchLookup(&cursor, keys, values, nil)
	if err == nil || errors.Is(err, ebpf.ErrKeyNotExist) {
		if got == n {
			return values, cpus, nil
		}
		err = fmt.Errorf("%d of %d entries", got, n)
	}
	if errors.Is(err, ebpf.ErrNotSupported) {
		err = lookupEach(m, values, n, cpus)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("reading %s: %w", m, err)
	}
	return values, cpus, nil
}

// lookupEach is for kernels without batch lookup of per-CPU arrays (before 5.13).
func lookupEach[V any](m *ebpf.Map, values []V, n, cpus int) error {
	for i := range n {
		if err := m.Lookup(uint32(i), values[i*cpus:(i+1)*cpus]); err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
	}
	return nil
}

func ofIndex[V any](values []V, cpus int, i uint32) ([]V, error) {
	from := int(i) * cpus
	if from+cpus > len(values) {
		return nil, fmt.Errorf("index %d is outside the map (was it made for another lab?)", i)
	}
	return values[from : from+cpus], nil
}
