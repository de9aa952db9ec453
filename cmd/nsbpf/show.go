package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/nsbpf/nsbpf/report"
)

func newShowCmd(e *env) *cobra.Command {
	var format string
	var asJSON bool
	c := &cobra.Command{
		Use:   "show [LAB]",
		Short: "Show a lab's nodes, links and addresses",
		Example: `  nsbpf show
  nsbpf show nat -o sh        # the commands that build it by hand
  nsbpf show -o mermaid       # for a document`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeLab,
		RunE: func(_ *cobra.Command, args []string) error {
			if asJSON {
				format = "json"
			}
			switch format {
			case "table", "json", "sh", "mermaid":
			default:
				return usagef("--output %q is unknown (want table, json, sh or mermaid)", format)
			}
			lab, err := openLab(first(args))
			if err != nil {
				return err
			}
			switch t := lab.Topology; format {
			case "json":
				return report.TopologyJSON(e.stdout, t)
			case "sh":
				_, err := fmt.Fprint(e.stdout, t.Plan().Script())
				return err
			case "mermaid":
				return report.TopologyMermaid(e.stdout, t)
			default:
				return report.TopologyTable(e.stdout, t, e.style())
			}
		},
	}
	c.Flags().StringVarP(&format, "output", "o", "table", "print as `FORMAT`: table, json, sh or mermaid")
	c.Flags().BoolVar(&asJSON, "json", false, "the same as -o json")
	completeWords(c, "output", "table", "json", "sh", "mermaid")
	return c
}
