package main

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nsbpf/nsbpf/internal/rcu"
	"github.com/nsbpf/nsbpf/loader"
	"github.com/nsbpf/nsbpf/topology"
)

func newDownCmd(e *env) *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "down [LAB…]",
		Short: "Take labs down and leave the host as it was",
		Long: `Take labs down, also such whose "up" died halfway. Links, addresses, routes,
nftables tables, sysctls, namespaces, mounts and BPF objects are then as before.
Nothing that nsbpf did not make is touched.

Without a name it takes down the one lab that is up.`,
		Example: `  nsbpf down
  nsbpf down nat try1
  nsbpf down --all`,
		ValidArgsFunction: completeLabs,
		RunE: func(c *cobra.Command, args []string) error {
			names, err := labsToTakeDown(e, args, all)
			if err != nil {
				return err
			}
			var errs []error
			for _, name := range names {
				err := takeDown(c.Context(), name)
				var held *topology.HeldError
				switch {
				case errors.Is(err, topology.ErrNotUp):
					e.say("%s is not up", name)
				case errors.As(err, &held):
					e.warn("%v", err)
				case err != nil:
					errs = append(errs, err)
				default:
					e.say("%s is down", name)
				}
			}
			return errors.Join(errs...)
		},
	}
	c.Flags().BoolVar(&all, "all", false, "take down every lab")
	return c
}

func labsToTakeDown(e *env, args []string, all bool) ([]string, error) {
	if all && len(args) > 0 {
		return nil, usagef("down takes names or --all, not both")
	}
	if len(args) > 0 {
		return args, nil
	}
	labs, err := topology.Labs()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, l := range labs {
		names = append(names, l.Name)
	}
	switch {
	case len(names) == 0:
		e.say("no lab is up")
	case len(names) > 1 && !all:
		return nil, usagef("several labs are up: %s (name them, or use --all)", strings.Join(names, ", "))
	}
	return names, nil
}

// takeDown detaches the lab's programs and removes its network. The error wraps
// [topology.ErrNotUp] if there is no such lab.
func takeDown(ctx context.Context, name string) error {
	defer rcu.Expedite()()
	return topology.Down(ctx, name, topology.DownOptions{Detach: loader.Clean})
}
