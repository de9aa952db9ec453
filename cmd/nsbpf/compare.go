package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nsbpf/nsbpf/bench/compare"
	"github.com/nsbpf/nsbpf/bench/format"
	"github.com/nsbpf/nsbpf/bench/result"
	"github.com/nsbpf/nsbpf/report"
)

// comparisonWriters are the formats of a comparison by name; after is the new result.
func comparisonWriters(e *env) map[string]func(w io.Writer, c *compare.Comparison, after *result.Document) error {
	return map[string]func(w io.Writer, c *compare.Comparison, after *result.Document) error{
		"table": func(w io.Writer, c *compare.Comparison, _ *result.Document) error {
			return report.BenchCompareTable(w, c, e.style())
		},
		"json": func(w io.Writer, c *compare.Comparison, _ *result.Document) error {
			return report.BenchCompareJSON(w, c)
		},
		"markdown": func(w io.Writer, c *compare.Comparison, _ *result.Document) error {
			return format.CompareMarkdown(w, c)
		},
		"junit": format.CompareJUnit,
	}
}

func newBenchCompareCmd(e *env) *cobra.Command {
	maxRegression, maxSteal := effect(compare.MaxRegression), effect(compare.MaxSteal)
	var o compare.Options
	var asJSON bool
	as := "table"
	c := &cobra.Command{
		Use:   "compare OLD NEW",
		Short: "Judge whether a result of bench is worse than another",
		Long: fmt.Sprintf(`Compare two results of nsbpf bench --json, and judge each metric that has a gate:
the cost of CPU. Rates are shown and not judged; those of shared machines drift.

Exit 3 is a regression: one that is significant (Mann-Whitney, 1 in 100 over all
metrics) and for certain larger than --max-regression. Exit 4 is inconclusive: the
noise, stolen time, a generator at its limit, too few rounds or a changed environment
allow no verdict, and the reason is told. Else the exit code is 0.

With %d rounds on a shared machine a cost that is 10 %% higher is found in 95 of 100
cases, and fewer than 1 in 100 alarms are false.`, compare.Rounds),
		Example: `  nsbpf bench left right --json > old.json
  nsbpf bench left right --json > new.json
  nsbpf bench compare old.json new.json --max-regression 5%
  nsbpf bench compare old.json new.json --ignore-environment=kernel --format markdown`,
		Args: cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			if asJSON {
				as = "json"
			}
			writers := comparisonWriters(e)
			write, ok := writers[as]
			if !ok {
				return usagef("format %q is not known (want one of %s)", as, strings.Join(slices.Sorted(maps.Keys(writers)), ", "))
			}
			before, errBefore := result.ReadFile(args[0])
			after, errAfter := result.ReadFile(args[1])
			if err := errors.Join(errBefore, errAfter); err != nil {
				return err
			}
			o.MaxRegression, o.MaxSteal = float64(maxRegression), float64(maxSteal)
			c := compare.Compare(before, after, o)
			if err := write(e.stdout, c, after); err != nil {
				return err
			}
			if v := c.Verdict(); v.ExitCode() != 0 {
				return &exitError{v.ExitCode(), fmt.Errorf("%s against %s: %s", args[1], args[0], v)}
			}
			return nil
		},
	}
	c.Flags().Var(&maxRegression, "max-regression", "allow a metric to be worse by `PERCENT`")
	c.Flags().Var(&maxSteal, "max-steal", "bear a hypervisor that took `PERCENT` of the CPU time")
	c.Flags().StringSliceVar(&o.IgnoreEnvironment, "ignore-environment", nil, "judge in spite of different `SETTINGS`, such as kernel,cpu; alone: of all")
	c.Flags().Lookup("ignore-environment").NoOptDefVal = "all"
	c.Flags().StringVar(&as, "format", as, "print as `FORMAT`: table, json, markdown, junit")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}
