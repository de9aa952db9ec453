package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"

	"github.com/nsbpf/nsbpf/report"
)

// env is everything impure that the commands touch, besides the kernel.
type env struct {
	stdout io.Writer // data
	stderr io.Writer // talk
	tty    bool      // stdout is a terminal
	colour bool      // and wants colour
	// progress is whether stderr is a terminal, which long work may redraw.
	progress bool
}

func newEnv() *env {
	e := &env{stdout: os.Stdout, stderr: os.Stderr}
	e.tty = term.IsTerminal(int(os.Stdout.Fd()))
	e.progress = term.IsTerminal(int(os.Stderr.Fd()))
	e.colour = e.tty && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	return e
}

func (e *env) style() report.Style {
	if e.colour {
		return report.Colour
	}
	return report.Style{}
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// say writes one line of talk.
func (e *env) say(format string, args ...any) { fmt.Fprintf(e.stderr, format+"\n", args...) }

// warn writes one line about something the user should know of.
func (e *env) warn(format string, args ...any) {
	fmt.Fprintf(e.stderr, "nsbpf: warning: "+format+"\n", args...)
}

// Exit codes.
const (
	exitFailed = 1 // it did not work
	exitUsage  = 2 // the command line makes no sense
)

// exitError is an error with an exit code of its own.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// usage marks an error as one of the command line.
func usage(err error) error {
	if err == nil {
		return nil
	}
	return &exitError{exitUsage, err}
}

func usagef(format string, args ...any) error { return usage(fmt.Errorf(format, args...)) }

// uninterrupted returns what of err is not merely that ctx ended.
func uninterrupted(ctx context.Context, err error) error {
	var rest []error
	for _, err := range split(err) {
		if !errors.Is(err, ctx.Err()) && !errors.Is(err, context.Cause(ctx)) {
			rest = append(rest, err)
		}
	}
	return errors.Join(rest...)
}

// run runs one command line and returns the exit code.
func run(e *env, args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()

	root := newRootCmd(e)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if ctx.Err() != nil {
		e.say("nsbpf: interrupted")
		err = uninterrupted(ctx, err)
	}
	e.complain(err)
	var xe *exitError
	if errors.As(err, &xe) {
		return xe.code
	}
	return exitFailed
}
