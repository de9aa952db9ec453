package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/loader"
	"github.com/nsbpf/nsbpf/report"
	"github.com/nsbpf/nsbpf/trace/filter"
)

func newFilterCmd(e *env) *cobra.Command {
	c := &cobra.Command{
		Use:   "filter",
		Short: "Drop packets at a hop",
		Example: `  nsbpf filter add right:right-veth drop 'udp port 9'
  nsbpf filter ls
  nsbpf filter rm 1`,
	}
	c.AddCommand(newFilterAddCmd(e), newFilterLsCmd(e), newFilterRmCmd(e))
	return c
}

func newFilterAddCmd(e *env) *cobra.Command {
	var lab, hook string
	c := &cobra.Command{
		Use:   "add HOP drop EXPR",
		Short: "Drop what an expression matches at one hop",
		Long: `Drop what EXPR matches at HOP, which is node:device for what comes in there, or
"node:device out". What is dropped is counted at the hop with reason filter;
everything else passes, also what cannot be read.`,
		Example: `  nsbpf filter add right:right-veth drop 'udp port 9'
  nsbpf filter add 'left:left-veth out' drop 'tcp port 80 and host 172.16.16.20'
  nsbpf filter add right:right-veth drop icmp --hook xdpgeneric`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 3 || args[1] != "drop" {
				return errors.New("filter add needs a hop, the word drop and an expression (nsbpf filter add right:right-veth drop 'udp port 9')")
			}
			return nil
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
			switch len(args) {
			case 0:
				return hopWords(), cobra.ShellCompDirectiveNoFileComp
			case 1:
				return []string{"drop"}, cobra.ShellCompDirectiveNoFileComp
			case 2:
				return exprWords(word, topologyOf(lab), false), cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			f, err := addFilter(lab, args[0], args[2], hook)
			if err != nil {
				return err
			}
			e.say("filter %d drops %s at %s by %s", f.ID, f.Expr, f.Hop, f.Hook)
			return nil
		},
	}
	addLabFlag(c, &lab)
	c.Flags().StringVar(&hook, "hook", "", "attach by `HOOK`: tcx, clsact, xdp or xdpgeneric; tcx is the fastest for what comes from this host")
	completeWords(c, "hook", "tcx", "clsact", "xdp", "xdpgeneric")
	return c
}

func addLabFlag(c *cobra.Command, lab *string) {
	c.Flags().StringVar(lab, "lab", "", "of the `LAB`; may be left out while one is up")
	completeFlag(c, "lab", completeLab)
}

func addFilter(labName, place, expr, hook string) (loader.Filter, error) {
	if strings.TrimSpace(expr) == "" {
		return loader.Filter{}, usagef("the expression is empty, which would drop everything (if that is meant: ip or not ip)")
	}
	x, err := filter.Parse(expr)
	if err != nil {
		return loader.Filter{}, usage(err)
	}
	match, err := x.Compile()
	if err != nil {
		return loader.Filter{}, usage(err)
	}
	hooks, err := loader.ParseHooks(hook)
	if err == nil && hooks.TC != loader.HookNone && hooks.XDP != loader.HookNone {
		err = fmt.Errorf("--hook %q names two hooks (a filter stands at one)", hook)
	}
	if err != nil {
		return loader.Filter{}, usage(err)
	}
	lab, err := workOn("add a filter to", labName)
	if err != nil {
		return loader.Filter{}, err
	}
	f := loader.Filter{Hook: hooks.TC, Expr: expr}
	layer := hop.TC
	if hooks.XDP != loader.HookNone {
		f.Hook, layer = hooks.XDP, hop.XDP
	}
	if f.Hop, err = hop.Find(lab.Topology.Hops(true), place, layer); err != nil {
		return f, usage(err)
	}
	return loader.Open(lab).AddFilter(f, match)
}

func newFilterLsCmd(e *env) *cobra.Command {
	var lab string
	var asJSON bool
	c := &cobra.Command{
		Use:     "ls",
		Short:   "List the filters and what they dropped",
		Example: "  nsbpf filter ls --json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			l, err := workOn("read the filters of", lab)
			if err != nil {
				return err
			}
			rows, err := filterRows(loader.Open(l))
			if err != nil {
				return err
			}
			if asJSON {
				return report.FiltersJSON(e.stdout, l.Name, rows)
			}
			if len(rows) == 0 {
				e.say("%s has no filters", l.Name)
			}
			return report.FiltersTable(e.stdout, rows, e.style())
		},
	}
	addLabFlag(c, &lab)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func filterRows(l *loader.Loader) ([]report.Filter, error) {
	filters, err := l.Filters()
	if err != nil {
		return nil, err
	}
	rows := make([]report.Filter, len(filters))
	for i, f := range filters {
		n, err := l.CountFilter(f.ID)
		if err != nil {
			return nil, err
		}
		rows[i] = report.Filter{ID: f.ID, Hop: f.Hop, Hook: f.Hook.String(), Expr: f.Expr, Matched: n.Matched, Unread: n.Unread}
	}
	return rows, nil
}

func newFilterRmCmd(e *env) *cobra.Command {
	var lab string
	c := &cobra.Command{
		Use:     "rm ID…",
		Short:   "Remove filters",
		Example: "  nsbpf filter rm 1",
		Args:    cobra.MinimumNArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return filterWords(lab), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			ids := make([]int, len(args))
			for i, a := range args {
				id, err := strconv.Atoi(a)
				if err != nil {
					return usagef("%q is no filter's number (see `nsbpf filter ls`)", a)
				}
				ids[i] = id
			}
			l, err := workOn("remove a filter from", lab)
			if err != nil {
				return err
			}
			var errs []error
			for _, id := range ids {
				err := loader.Open(l).RemoveFilter(id)
				if errors.Is(err, loader.ErrNoFilter) {
					err = fmt.Errorf("filter %d does not exist (see `nsbpf filter ls`)", id)
				}
				if err == nil {
					e.say("filter %d is gone", id)
				}
				errs = append(errs, err)
			}
			return errors.Join(errs...)
		},
	}
	addLabFlag(c, &lab)
	return c
}
