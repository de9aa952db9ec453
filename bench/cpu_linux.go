package bench

import (
	"bytes"
	"os"
	"strconv"
	"time"
)

// tick is the unit of /proc/stat: USER_HZ, 100 on every architecture Go has.
const tick = 10 * time.Millisecond

// busyTime returns how long the machine's CPUs have been busy, in sum, since it
// started: user, nice, system, irq and softirq time. It is the machine's and not
// the process's, because softirqs run in whatever process they interrupt.
func busyTime() time.Duration {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	fields := bytes.Fields(line) // cpu user nice system idle iowait irq softirq steal …
	var sum time.Duration
	for _, i := range []int{1, 2, 3, 6, 7} {
		if i < len(fields) {
			n, _ := strconv.ParseInt(string(fields[i]), 10, 64)
			sum += time.Duration(n) * tick
		}
	}
	return sum
}
