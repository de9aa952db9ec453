package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/nsbpf/nsbpf/loader"
)

func newDoctorCmd(e *env) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Say what this kernel and this user can do",
		Long: `Say what this kernel and this user can do, one line each, with what is lost
where something is missing and how to get it. Nothing is changed.

The exit code is 1 if something is missing without which nothing works.`,
		Example: "  nsbpf doctor\n  sudo nsbpf doctor --json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			features := loader.Probe()
			if asJSON {
				err := writeJSON(e.stdout, struct {
					Schema   string           `json:"schema"`
					Features []loader.Feature `json:"features"`
				}{"nsbpf.doctor/1", features})
				if err != nil {
					return err
				}
			} else {
				printFeatures(e, features)
			}
			for _, f := range features {
				if f.Required && !f.OK {
					return errors.New("something that everything needs is missing")
				}
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func printFeatures(e *env, features []loader.Feature) {
	for _, f := range features {
		mark := "✓"
		if !f.OK {
			mark = "✗"
		}
		fmt.Fprintf(e.stdout, "%s %-19s %s\n", mark, f.Name, f.Found)
		if !f.OK {
			fmt.Fprintf(e.stdout, "  %-19s %s; mend: %s\n", "", f.Without, f.Mend)
		}
	}
}
