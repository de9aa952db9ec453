package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nsbpf/nsbpf/loader"
	"github.com/nsbpf/nsbpf/topology"
	"github.com/nsbpf/nsbpf/trace/filter"
)

// completeWords lets the shell complete a flag with one of words.
func completeWords(c *cobra.Command, flag string, words ...string) {
	completeFlag(c, flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
}

// completeFlag lets the shell complete a flag with what f returns.
func completeFlag(c *cobra.Command, flag string, f cobra.CompletionFunc) {
	if err := c.RegisterFlagCompletionFunc(flag, f); err != nil {
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

func nodeNames(t *topology.Topology) []string {
	var names []string
	for _, n := range t.Nodes {
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
		for _, n := range nodeNames(l.Topology) {
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
	return placesOf(lab.Topology)
}

// placesOf returns the places that packets are looked at, each once.
func placesOf(t *topology.Topology) []string {
	var words []string
	for _, h := range t.Hops(false) {
		if !slices.Contains(words, h.Place()) {
			words = append(words, h.Place())
		}
	}
	return words
}

// completeTrace completes a lab's name and an expression.
func completeTrace(c *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	labs, directive := completeLabs(c, nil, word)
	switch {
	case len(args) == 0:
		return append(labs, exprWords(word, topologyOf(""), true)...), directive
	case len(args) == 1 && slices.Contains(labs, args[0]):
		return exprWords(word, topologyOf(args[0]), true), directive
	}
	return nil, directive
}

// topologyOf returns that of a lab that is up; without a name, of the only one. It
// is empty if there is none.
func topologyOf(labName string) *topology.Topology {
	lab, err := openLab(labName)
	if err != nil {
		return &topology.Topology{}
	}
	return lab.Topology
}

// exprWords completes the last word of an expression about packets in t: with a
// name behind node and hop, with nothing where a value is to be. Our own words are
// for those who see whole paths.
func exprWords(expr string, t *topology.Topology, own bool) []string {
	cut := strings.LastIndexAny(expr, " (!") + 1
	done, word := expr[:cut], expr[cut:]
	before := ""
	if all := strings.Fields(done); len(all) > 0 {
		before = all[len(all)-1]
	}
	var words []string
	add := func(w, help string) {
		if strings.HasPrefix(w, word) {
			words = append(words, done+w+help)
		}
	}
	switch before {
	case "node":
		for _, n := range nodeNames(t) {
			add(n, "")
		}
	case "hop":
		for _, p := range placesOf(t) {
			add(p, "")
		}
	case "host", "net", "port", "portrange", "proto", "greater", "less", "len", "latency":
	default:
		for _, w := range filter.Words() {
			// The many names of flags and messages only if one was begun.
			if (own || !w.Own) && (word != "" || w.Form != "") {
				add(w.Text, "\t"+w.Help)
			}
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
