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
			if _, argv := splitExec(args); len(argv) == 0 {
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
			place, argv := splitExec(args)
			labName, node := splitNode(place)
			lab, err := workOn("run "+argv[0]+" in", labName)
			if err != nil {
				return err
			}
			if lab.Topology.Node(node) == nil {
				return usagef("lab %q has no node %q (it has %s)", lab.Name, node, strings.Join(nodeNames(lab.Topology), ", "))
			}
			path, err := exec.LookPath(argv[0])
			if err != nil {
				return fmt.Errorf("run in %s: %w", place, err)
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

// splitExec takes the node and the command apart. The -- between them may be
// missing, as with `ip netns exec`.
func splitExec(args []string) (place string, argv []string) {
	if len(args) == 0 {
		return "", nil
	}
	argv = args[1:]
	if len(argv) > 0 && argv[0] == "--" {
		argv = argv[1:]
	}
	return args[0], argv
}

// splitNode takes "lab/node" apart; the lab may be missing.
func splitNode(s string) (lab, node string) {
	if i := strings.IndexByte(s, '/'); i >= 0 {
		return s[:i], s[i+1:]
	}
	return "", s
}
