package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func newVersionCmd(e *env) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  nsbpf version --json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			version, revision := buildVersion()
			if asJSON {
				return writeJSON(e.stdout, struct {
					Schema   string `json:"schema"`
					Version  string `json:"version"`
					Revision string `json:"revision,omitempty"`
					Go       string `json:"go"`
					Platform string `json:"platform"`
				}{"nsbpf.version/1", version, revision, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH})
			}
			line := "nsbpf " + version
			if revision != "" {
				line += " (" + revision + ")"
			}
			_, err := fmt.Fprintf(e.stdout, "%s %s %s/%s\n", line, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// buildVersion returns what the Go tool wrote into the binary.
func buildVersion() (version, revision string) {
	b, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown", ""
	}
	version = b.Main.Version
	for _, s := range b.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			revision = s.Value[:12]
		}
	}
	return version, revision
}
