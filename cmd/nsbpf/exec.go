package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nsbpf/nsbpf/internal/netns"
)

func newExecCmd(e *env) *cobra.Command {
	c := &cobra.Command{
		Use:   "exec [LAB/]NODE -- CMD [ARG…]",
		Short: "Run a command inside a node",
		Long: `Run a command inside a node's network namespace. Its exit code is nsbpf's; its
input, output and signals are its own.`,
		Example: `  nsbpf exec left -- ping -c1 172.16.16.20
  nsbpf exec nat/right -- ss -tan`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 2 {
				return fmt.Errorf("exec needs a node and a command (nsbpf exec left -- ping -c1 172.16.16.20)")
			}
			return nil
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveDefault
			}
			return nodeWords(), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			labName, node := splitNode(args[0])
			lab, err := openLab(labName)
			if err != nil {
				return err
			}
			argv := args[1:]
			path, err := exec.LookPath(argv[0])
			if err != nil {
				return err
			}
			if lab.Topology.Node(node) == nil {
				return usagef("lab %q has no node %q (it has %s)", lab.Name, node, strings.Join(nodeNames(lab), ", "))
			}
			ns, err := lab.Netns(node)
			if err != nil {
				return err
			}
			defer ns.Close()
			return netns.Exec(ns, append([]string{path}, argv[1:]...), os.Environ())
		},
	}
	c.Flags().SetInterspersed(false)
	return c
}

// splitNode takes "lab/node" apart; the lab may be missing.
func splitNode(s string) (lab, node string) {
	if i := strings.IndexByte(s, '/'); i >= 0 {
		return s[:i], s[i+1:]
	}
	return "", s
}
