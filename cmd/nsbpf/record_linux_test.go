package main

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/testenv"
	"github.com/nsbpf/nsbpf/loader"
	"github.com/nsbpf/nsbpf/trace"
)

var recordAgain = flag.Bool("record", false, "record the sightings anew that the tests of trace join")

// tape is what a trace read from the ring, in that order, and the truth
// about it. As a file, which the tests of trace read, it is JSON compressed with
// gzip: first what is known of the lab and of the packets, then the entries.
type tape struct {
	mutex   sync.Mutex // of entries
	entries []entry
	config  trace.Config
	truth   []recorded
}

// entry is a run, or says that all sightings before a time were given.
type entry struct {
	Run    *collector.Run `json:"run,omitempty"`
	Packet int            `json:"packet,omitempty"` // of the truth, from 1; 0: not known
	Until  uint64         `json:"until,omitempty"`
}

// recorded is the truth about one packet.
type recorded struct {
	Probe   bool `json:"probe,omitempty"` // known by its payload, else by its sequence numbers
	Arrived bool `json:"arrived,omitempty"`
	Attempt int  `json:"attempt"`
}

// take is what a ring is read with.
func (r *tape) take(batch *collector.Batch, until uint64) error {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	for _, one := range batch.Runs {
		r.entries = append(r.entries, entry{Run: &one})
	}
	if until != 0 {
		r.entries = append(r.entries, entry{Until: until})
	}
	return nil
}

// runs returns those that were read so far.
func (r *tape) runs() []*collector.Run {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	var all []*collector.Run
	for i := range r.entries {
		if run := r.entries[i].Run; run != nil {
			all = append(all, run)
		}
	}
	return all
}

// await returns when n runs are as want says.
func (r *tape) await(t *testing.T, n int, want func(*collector.Run) bool) {
	t.Helper()
	clock := time.NewTicker(5 * time.Millisecond)
	defer clock.Stop()
	for range 2000 {
		if len(slices.DeleteFunc(r.runs(), func(run *collector.Run) bool { return !want(run) })) >= n {
			return
		}
		<-clock.C
	}
	t.Fatalf("%d such runs did not come", n)
}

// TestRecord records what the tests of trace perturb and join, under -record.
func TestRecord(t *testing.T) {
	if !*recordAgain {
		t.Skip("the recordings stay as they are without -record")
	}
	testenv.Root(t)
	for _, s := range situations() {
		t.Run(s.file, func(t *testing.T) {
			upLab(t, s.up...)
			for _, f := range s.filters {
				testenv.Run(t, "nsbpf", append([]string{"filter", "add"}, f...)...)
			}
			r := s.record(t)
			r.write(t, filepath.Join("..", "..", "trace", "testdata", "recorded-"+s.file+".json.gz"))
		})
	}
}

// record makes a recording of a lab that is up. Neighbours and bridges have not
// learned where anybody is.
func (s *situation) record(t *testing.T) *tape {
	t.Helper()
	known := s.proving
	known.flows = nil
	c := openCourse(t, known)
	c.flows = s.flows
	traced, err := loader.Open(c.lab).Trace(t.Context(), loader.TraceOptions{Ring: roomy})
	if err != nil {
		t.Fatal(err)
	}
	defer traced.Close()
	o, err := newOracle(traced.Hops, s.flows, s.probes)
	if err != nil {
		t.Fatal(err)
	}
	r := &tape{}
	if r.config, err = joinerConfig(c.lab, traced.Hops, trace.Auto); err != nil {
		t.Fatal(err)
	}
	sinks := c.openSinks(t, false)
	stop := readTrace(t, traced, r.take)
	s.send(t, c, o, r)
	c.settle(t)
	stop()
	for node, all := range sinks {
		for _, k := range all {
			if err := k.close(); err != nil {
				t.Error(err)
			}
			o.receive(node, k)
		}
	}
	r.learn(t, o)
	return r
}

func (r *tape) write(t *testing.T, file string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewWriterLevel(f, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	enc := json.NewEncoder(z)
	err = enc.Encode(map[string]any{
		"hops": r.config.Hops, "edges": r.config.Edges, "owners": r.config.Owners, "packets": r.truth,
	})
	for i := 0; i < len(r.entries) && err == nil; i++ {
		err = enc.Encode(&r.entries[i])
	}
	if err := errors.Join(err, z.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
}
