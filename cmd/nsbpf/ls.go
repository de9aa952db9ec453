package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/nsbpf/nsbpf/report"
	"github.com/nsbpf/nsbpf/topology"
)

func newLsCmd(e *env) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "ls",
		Short:   "List the labs",
		Example: "  nsbpf ls --json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			labs, err := topology.Labs()
			if err != nil {
				return err
			}
			rows := make([]report.Lab, len(labs))
			for i, l := range labs {
				rows[i] = report.Lab{Name: l.Name, State: string(l.State)}
				if !l.Created.IsZero() {
					rows[i].Age = time.Since(l.Created)
				}
				if l.Topology != nil {
					rows[i].Nodes, rows[i].Links = len(l.Topology.Nodes), len(l.Topology.Links)
				}
			}
			if asJSON {
				return report.LabsJSON(e.stdout, rows)
			}
			if len(rows) == 0 {
				e.say("no lab is up")
			}
			return report.LabsTable(e.stdout, rows, e.style())
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}
