package rulings

import (
	"regexp"
	"strconv"
	"strings"
)

var (
	// identifier is what nft takes as a name without quotes. Other names cannot be
	// asked for, and what is none must not get into a command.
	identifier = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9/\\_.-]*$`)
	handled    = regexp.MustCompile(` # handle (\d+)$`)
)

// parseListing returns the rules of one chain by handle, from what `nft -a -s list
// chain` prints. A rule that takes several lines is put on one; see [fill] for
// what may be missing in it.
func parseListing(text string) map[uint64]string {
	rules := make(map[uint64]string)
	var words []string
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(strings.TrimRight(line, "\n"), "\t\t")
		if !ok {
			continue // of the table or the chain itself
		}
		if more := strings.TrimLeft(rest, "\t"); more == rest {
			words = words[:0]
		} else {
			rest = strings.TrimLeft(more, " ") // it goes on with the line before
		}
		end := handled.FindStringSubmatchIndex(rest)
		if end == nil {
			words = append(words, rest)
			continue
		}
		words = append(words, rest[:end[0]])
		// The pattern has only digits there; a number too large is no handle.
		if handle, err := strconv.ParseUint(rest[end[2]:end[3]], 10, 64); err == nil {
			rules[handle] = strings.Join(words, " ")
		}
		words = words[:0]
	}
	return rules
}

// fill completes a rule with its matches and targets of iptables. nft leaves those
// out that no library of iptables' prints for it, and the space around them stays.
func fill(rule string, foreign []string) string {
	words := strings.Split(rule, " ")
	gaps := 0
	for _, w := range words {
		if w == "" {
			gaps++
		}
	}
	switch {
	case gaps == 0 || len(foreign) == 0:
		return rule
	case gaps == len(foreign):
		for i, w := range words {
			if w == "" {
				words[i], foreign = foreign[0], foreign[1:]
			}
		}
		return strings.Join(words, " ")
	}
	// Which are missing is not known: all are named.
	return strings.Join(append(strings.Fields(rule), foreign...), " ")
}
