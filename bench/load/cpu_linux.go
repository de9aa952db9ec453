package load

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// tick is the unit of /proc/stat: USER_HZ, 100 on every architecture Go has.
const tick = 10 * time.Millisecond

// machineTime is how long the CPUs have been busy since the machine started.
type machineTime struct {
	busy, softirq time.Duration
	softirqd      time.Duration // of the threads ksoftirqd, exactly
}

// readMachineTime returns zeros for what /proc does not show.
func readMachineTime() (m machineTime) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return m
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	fields := strings.Fields(string(line)) // cpu user nice system idle iowait irq softirq steal …
	for _, i := range []int{1, 2, 3, 6, 7} {
		if i < len(fields) {
			n, _ := strconv.ParseInt(fields[i], 10, 64)
			m.busy += time.Duration(n) * tick
			if i == 7 {
				m.softirq = time.Duration(n) * tick
			}
		}
	}
	for _, pid := range softirqThreads() {
		b, _ := os.ReadFile(filepath.Join("/proc", pid, "schedstat"))
		if f := bytes.Fields(b); len(f) > 0 { // time on the CPU, in ns
			n, _ := strconv.ParseInt(string(f[0]), 10, 64)
			m.softirqd += time.Duration(n)
		}
	}
	return m
}

// softirqThreads returns the processes that are called ksoftirqd/N. The kernel
// starts them with the CPUs, so they are read once.
var softirqThreads = sync.OnceValue(func() (pids []string) {
	comms, _ := filepath.Glob("/proc/[0-9]*/comm")
	for _, path := range comms {
		if b, err := os.ReadFile(path); err == nil && bytes.HasPrefix(b, []byte("ksoftirqd/")) {
			pids = append(pids, filepath.Base(filepath.Dir(path)))
		}
	}
	return pids
})
