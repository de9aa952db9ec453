package load

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsbpf/nsbpf/internal/netns"
)

// crew is threads that do the same work, each pinned to a CPU.
type crew struct {
	ns   *os.File // that they are in
	cpus []int

	wait sync.WaitGroup
	cpu  atomic.Int64 // ns, of those that ended

	mu   sync.Mutex
	tids []int // of those that run
	errs []error
}

// start begins a thread that runs fn. Its CPU is the nth's turn.
func (c *crew) start(n int, fn func() error) {
	c.wait.Go(func() {
		err := netns.Do(c.ns, func() error { return c.pinned(c.cpus[n%len(c.cpus)], fn) })
		if err != nil {
			c.mu.Lock()
			c.errs = append(c.errs, err)
			c.mu.Unlock()
		}
	})
}

// join waits for all threads and returns their errors.
func (c *crew) join() error {
	c.wait.Wait()
	return errors.Join(c.errs...)
}

// failed reports whether one of the threads has.
func (c *crew) failed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.errs) > 0
}

func (c *crew) time() time.Duration { return time.Duration(c.cpu.Load()) }

// pinned runs fn on one CPU, and adds up the time that it takes there.
func (c *crew) pinned(cpu int, fn func() error) (err error) {
	var before, only unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return fmt.Errorf("read the CPUs of a thread: %w", err)
	}
	only.Set(cpu)
	if err := unix.SchedSetaffinity(0, &only); err != nil {
		return fmt.Errorf("pin a thread to CPU %d: %w (is it online, and allowed to this process?)", cpu, err)
	}
	defer func() { err = errors.Join(err, unix.SchedSetaffinity(0, &before)) }()
	tid := unix.Gettid()
	c.mu.Lock()
	c.tids = append(c.tids, tid)
	c.mu.Unlock()
	start := threadTime()
	err = fn()
	c.cpu.Add(int64(threadTime() - start))
	c.mu.Lock()
	for i, t := range c.tids {
		if t == tid {
			c.tids = append(c.tids[:i], c.tids[i+1:]...)
			break
		}
	}
	c.mu.Unlock()
	return err
}

// interrupt ends the system calls that the threads are in. The runtime of Go takes
// this signal at any time and does nothing more about it.
func (c *crew) interrupt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, tid := range c.tids {
		_ = unix.Tgkill(unix.Getpid(), tid, unix.SIGURG)
	}
}

// threadTime returns the calling thread's CPU time.
func threadTime() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts)
	return time.Duration(ts.Nano())
}

// ownCPUs returns the CPUs that this process may use.
func ownCPUs() ([]int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("read the CPUs of this process: %w", err)
	}
	var cpus []int
	for i := 0; len(cpus) < set.Count(); i++ {
		if set.IsSet(i) {
			cpus = append(cpus, i)
		}
	}
	return cpus, nil
}

// share gives the senders' threads CPUs, and then the receivers', in turn.
func share(cpus []int, threads int) (senders, receivers []int) {
	for i := range threads {
		senders = append(senders, cpus[i%len(cpus)])
		receivers = append(receivers, cpus[(threads+i)%len(cpus)])
	}
	return senders, receivers
}
