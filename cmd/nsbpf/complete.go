package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/nsbpf/nsbpf/loader"
	"github.com/nsbpf/nsbpf/topology"
)

// completeWords lets the shell complete a flag with one of words.
func completeWords(c *cobra.Command, flag string, words ...string) {
	err := c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
	if err != nil {
		panic(err) // the flag does not exist: a mistake in this package
	}
}

// completeLabs completes the names of labs that are not on the line yet.
func completeLabs(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	labs, _ := topology.Labs()
	given := make(map[string]bool)
	for _, a := range args {
		given[a] = true
	}
	var words []string
	for _, l := range labs {
		if !given[l.Name] {
			words = append(words, l.Name)
		}
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}

// completeLab completes one lab's name.
func completeLab(c *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return completeLabs(c, args, word)
}

func nodeNames(lab *topology.Lab) []string {
	var names []string
	for _, n := range lab.Topology.Nodes {
		names = append(names, n.Name)
	}
	return names
}

// nodeWords returns what `exec` takes: the nodes of the one lab, or all with
// their lab's name.
func nodeWords() []string {
	labs, _ := topology.Labs()
	var words []string
	for _, l := range labs {
		for _, n := range nodeNames(l) {
			words = append(words, l.Name+"/"+n)
			if len(labs) == 1 {
				words = append(words, n)
			}
		}
	}
	return words
}

// hopWords returns the places of the one lab that is up.
func hopWords() []string {
	lab, err := openLab("")
	if err != nil {
		return nil
	}
	var words []string
	seen := make(map[string]bool)
	for _, h := range lab.Topology.Hops(false) {
		if !seen[h.Place()] {
			seen[h.Place()] = true
			words = append(words, h.Place())
		}
	}
	return words
}

// filterWords returns the numbers of a lab's filters with their expressions.
func filterWords(labName string) []string {
	lab, err := openLab(labName)
	if err != nil {
		return nil
	}
	filters, _ := loader.Open(lab).Filters()
	var words []string
	for _, f := range filters {
		words = append(words, fmt.Sprintf("%d\t%s at %s", f.ID, f.Expr, f.Hop))
	}
	return words
}
