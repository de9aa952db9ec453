package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/nsbpf/nsbpf/topology"
	"github.com/nsbpf/nsbpf/trace/filter"
)

func newRootCmd(e *env) *cobra.Command {
	root := &cobra.Command{
		Use:   "nsbpf",
		Short: "Build networks of namespaces, and see every hop of them",
		Long: `nsbpf builds a network of Linux namespaces, veth pairs, bridges and NAT, and
puts BPF programs on every veth end. It shows what passes each hop, which way a
packet went, how long each hop took, and where and why it died.`,
		Example: `  nsbpf up nat --wan --trace     # build, and follow every packet until Ctrl-C
  nsbpf exec left -- ping -c1 8.8.8.8
  nsbpf stats --watch
  nsbpf down`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.Version, _ = buildVersion()
	root.SetOut(e.stdout)
	root.SetErr(e.stderr)
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(
		newUpCmd(e),
		newDownCmd(e),
		newLsCmd(e),
		newShowCmd(e),
		newExecCmd(e),
		newStatsCmd(e),
		newTraceCmd(e),
		newReplayCmd(e),
		newDiffCmd(e),
		newPingCmd(e),
		newPathCmd(e),
		newAssertCmd(e),
		newFilterCmd(e),
		newBenchCmd(e),
		newDoctorCmd(e),
		newVersionCmd(e),
	)
	root.CompletionOptions.HiddenDefaultCmd = false
	usageArgs(root)
	return root
}

// flagError says what a flag wants.
func flagError(c *cobra.Command, err error) error {
	var bad *pflag.InvalidValueError
	if !errors.As(err, &bad) {
		return usagef("%w (see `%s --help`)", err, c.CommandPath())
	}
	flag := bad.GetFlag()
	switch kind := flag.Value.Type(); {
	case errors.Is(err, strconv.ErrRange):
		return usagef("--%s %s is too large", flag.Name, bad.GetValue())
	case kind == "bool":
		return usagef("--%s %q is neither true nor false (it needs no value)", flag.Name, bad.GetValue())
	case kind == "duration":
		return usagef("--%s %q is no duration (want for example 10s or 500ms)", flag.Name, bad.GetValue())
	case kind == "int" || strings.HasPrefix(kind, "uint"):
		return usagef("--%s %q is no number that it takes (want a whole one, not below 0)", flag.Name, bad.GetValue())
	}
	return usagef("--%s: %w", flag.Name, bad.Unwrap())
}

// usageArgs makes errors about arguments errors of the command line.
func usageArgs(c *cobra.Command) {
	check := c.Args
	if check == nil && !c.Runnable() {
		check = unknownCommand
	}
	if check != nil {
		c.Args = func(c *cobra.Command, args []string) error { return usage(hinted(c, check(c, args))) }
	}
	if !c.Runnable() {
		// Without RunE cobra prints the help for whatever word follows and succeeds.
		c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	}
	for _, sub := range c.Commands() {
		usageArgs(sub)
	}
}

// hinted points to the help if err, which may be nil, has no hint of its own.
func hinted(c *cobra.Command, err error) error {
	if err == nil || strings.HasSuffix(err.Error(), ")") {
		return err
	}
	return fmt.Errorf("%s: %w (see `%s --help`)", c.Name(), err, c.CommandPath())
}

func unknownCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := fmt.Sprintf("see `%s --help`", c.CommandPath())
	if s := c.SuggestionsFor(args[0]); len(s) > 0 {
		hint = fmt.Sprintf("did you mean %q?", s[0])
	}
	return fmt.Errorf("%q is no command of %s (%s)", args[0], c.CommandPath(), hint)
}

// complain prints each of the errors that err joins on a line of its own, and
// below it the line of the file or expression it is about.
func (e *env) complain(err error) {
	if err == nil {
		return
	}
	for _, err := range split(err) {
		fmt.Fprintf(e.stderr, "nsbpf: %s\n", strings.TrimSpace(err.Error()))
		fmt.Fprint(e.stderr, excerpt(err))
	}
}

// excerpt returns the lines that show where err is, each with its newline.
func excerpt(err error) string {
	var inFile *topology.Error
	if errors.As(err, &inFile) {
		return inFile.Excerpt()
	}
	var inExpr *filter.Error
	if errors.As(err, &inExpr) {
		return inExpr.Excerpt()
	}
	return ""
}

// split returns the errors that err joins, or err itself.
func split(err error) []error {
	var xe *exitError
	if errors.As(err, &xe) && xe == err {
		return split(xe.err)
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || strings.Count(err.Error(), "\n") == 0 {
		return []error{err}
	}
	var all []error
	for _, one := range joined.Unwrap() {
		all = append(all, split(one)...)
	}
	return all
}

// workOn opens a lab as [openLab] does, for something that needs it running and
// needs privilege.
func workOn(doing, name string) (*topology.Lab, error) {
	lab, err := openLab(name)
	if err != nil {
		return nil, err
	}
	switch lab.State {
	case topology.StateBroken:
		return nil, fmt.Errorf("lab %q is broken (run nsbpf down %s)", lab.Name, lab.Name)
	case topology.StateBusy:
		return nil, fmt.Errorf("lab %q is not up yet, or no longer (another nsbpf is at work on it)", lab.Name)
	}
	return lab, topology.Capable(doing, lab.Name)
}

// openLab opens the lab of that name; without a name, the only one there is.
func openLab(name string) (*topology.Lab, error) {
	if name != "" {
		lab, err := topology.Open(name)
		if errors.Is(err, topology.ErrNotUp) {
			err = fmt.Errorf("%w (see `nsbpf ls`)", err)
		}
		return lab, err
	}
	labs, err := topology.Labs()
	if err != nil {
		return nil, err
	}
	switch len(labs) {
	case 0:
		return nil, errors.New("no lab is up (start one with `nsbpf up`)")
	case 1:
		return topology.Open(labs[0].Name)
	}
	var names []string
	for _, l := range labs {
		names = append(names, l.Name)
	}
	return nil, usagef("several labs are up: %s (name one)", strings.Join(names, ", "))
}
