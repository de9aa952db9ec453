package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestHelp checks that the help of every command has an example that parses.
func TestHelp(t *testing.T) {
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		name := c.CommandPath()
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: short help %q (want a phrase without a full stop)", name, c.Short)
		}
		if !strings.Contains(c.Example, name) && c.Parent() != nil {
			t.Errorf("%s: no example of it in its help:\n%s", name, c.Example)
		}
		for line := range strings.Lines(c.Example) {
			if !strings.HasPrefix(line, "  nsbpf ") && !strings.HasPrefix(line, "  sudo nsbpf ") {
				t.Errorf("%s: example %q (want two spaces and a command)", name, line)
			}
		}
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(newRootCmd(newEnv()))
}

// TestHelpWorks checks that help is data: on stdout, with nothing else.
func TestHelpWorks(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"help", "up"}, {"up", "-h"}, {"filter"}, {}} {
		var stdout, stderr bytes.Buffer
		if code := run(&env{stdout: &stdout, stderr: &stderr}, args); code != 0 {
			t.Errorf("%q: exit code %d", args, code)
		}
		if !strings.Contains(stdout.String(), "Usage:") || stderr.Len() != 0 {
			t.Errorf("%q: stdout %q, stderr %q", args, stdout.String(), stderr.String())
		}
	}
}
