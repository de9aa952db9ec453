package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/nsbpf/nsbpf/loader"
	"github.com/nsbpf/nsbpf/trace"
	"github.com/nsbpf/nsbpf/trace/filter"
	"github.com/nsbpf/nsbpf/trace/recording"
)

func newReplayCmd(e *env) *cobra.Command {
	f := traceFlags{ring: loader.DefaultRing >> 10, recordingFlags: recordingFlags{snap: -1}}
	var asJSON bool
	c := &cobra.Command{
		Use:   "replay FILE [EXPR]",
		Short: "Print the paths of a recording",
		Long: `Print the paths that are in a recording, as the trace that wrote it did. Neither
root nor the lab is needed. Every option of trace can be given anew but those that
choose packets in the kernel: what was not recorded is not there. EXPR is asked of
the recorded packets, at whatever hop they were.`,
		Example: `  nsbpf trace 'port 443' -w https.pcapng --for 10s
  nsbpf replay https.pcapng
  nsbpf replay https.pcapng 'dropped or latency > 1ms' --json
  nsbpf replay https.ndjson -w https.pcapng -q`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			if err := checkChosenFirst(c.Flags()); err != nil {
				return err
			}
			expr := ""
			if len(args) > 1 {
				expr = args[1]
			}
			run, err := f.options(expr, asJSON, loader.HookNone)
			if err != nil {
				return err
			}
			run.replayed = len(args) > 1
			return replay(c.Context(), e, args[0], run, c.Flags().Changed("identity"))
		},
	}
	f.addShown(c.Flags())
	addChosenFirst(c.Flags())
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a path, and the ledger at the end")
	completeWords(c, "identity", "auto", "fingerprint")
	return c
}

// replay prints the recording in a file.
func replay(ctx context.Context, e *env, file string, run traceRun, identity bool) (err error) {
	r, err := recording.OpenFile(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	start := r.Start()
	if err := run.asRecorded(&start, identity); err != nil {
		return fmt.Errorf("replaying %s: %w", file, err)
	}
	if sameFile(file, run.file) {
		return usagef("-w %s would overwrite what is replayed (choose another name)", run.file)
	}
	// What comes after enough paths is of the totals.
	p := newPathPrinter(e, run, func() {})
	s, err := newSession(start, run.identity, p.print)
	if err != nil {
		return fmt.Errorf("replaying %s: %w", file, err)
	}
	s.armed = armedOf(start)
	if err := p.open(s); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	e.say("replaying %s: %s at %s, recorded %s by nsbpf %s on Linux %s", file, start.Lab, plural(len(start.Hops), "hop"),
		time.Unix(0, start.TimeNS).Format("2006-01-02 15:04:05"), start.Version, start.Kernel)
	end, err := s.replay(ctx, r, run.duration)
	if err != nil {
		return fmt.Errorf("replaying %s: %w", file, err)
	}
	if s.next != "" {
		e.warn("the recording goes on in %s, which is not there", s.next)
	}
	return p.end(end)
}

// asRecorded takes from a recording's start what was not given anew, and writes
// there what was: a recording of the replay is replayed likewise.
func (r *traceRun) asRecorded(start *recording.Start, identity bool) (err error) {
	if identity {
		start.Identity = r.traceFlags.identity
	} else if start.Identity == "fingerprint" {
		r.identity = trace.Fingerprint
	}
	if r.count == 0 {
		r.count = start.Count
	}
	start.Count = r.count
	switch {
	case r.replayed:
		start.Shown = cmp.Or(r.source, everyPacket)
	case start.Shown == everyPacket:
	case start.Shown != "":
		r.replayed = true
		r.expr, err = filter.Parse(start.Shown)
	case start.Expr != "":
		r.expr, err = filter.Parse(start.Expr)
	}
	return err
}

// sameFile says whether two names are those of one file.
func sameFile(a, b string) bool {
	one, errA := os.Stat(a)
	other, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(one, other)
}

// replay tells the session what was recorded, of the first time if that is not 0,
// until ctx is done. It returns nil if the recording has no end.
func (s *session) replay(ctx context.Context, r *recording.Reader, first time.Duration) (end *recording.End, err error) {
	for e, err := range r.Events() {
		if errors.Is(err, recording.ErrCut) {
			break
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return end, err
		}
		_, span := s.now()
		switch {
		case e.End != nil:
			end = e.End
		case e.Path != nil || e.Ledger != nil: // made anew
		case e.Next != "":
			s.next = e.Next
		case first > 0 && span >= first: // it is the end that is wanted
		default:
			err = s.take(e)
		}
		if err != nil {
			return end, err
		}
	}
	s.joiner.End()
	return end, s.err
}
