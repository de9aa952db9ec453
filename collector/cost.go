package collector

import "time"

// Cost is what a trace took of the machine.
type Cost struct {
	Runs    uint64        // of the programs, those that were measured
	RunTime time.Duration // of these
	Reader  time.Duration // CPU time of the process that reads and joins
	Elapsed time.Duration // how long the trace was
}

// PerRun returns what one packet cost at one hop, in the kernel; 0 if no run was
// measured.
func (c Cost) PerRun() time.Duration {
	if c.Runs == 0 {
		return 0
	}
	return c.RunTime / time.Duration(c.Runs)
}

// ReaderShare returns the share of one CPU that the reader took.
func (c Cost) ReaderShare() float64 {
	if c.Elapsed <= 0 {
		return 0
	}
	return float64(c.Reader) / float64(c.Elapsed)
}
