package format

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/nsbpf/nsbpf/bench/result"
)

// writers are the formats of a Document by name.
var writers = map[string]func(io.Writer, *result.Document) error{
	"json":           result.Write,
	"go":             Go,
	"csv":            CSV,
	"markdown":       Markdown,
	"junit":          JUnit,
	"action-bigger":  ActionBigger,
	"action-smaller": ActionSmaller,
	"bencher":        Bencher,
}

// Names returns the names that [Write] takes, in the order to show them.
func Names() []string {
	return []string{"json", "go", "csv", "markdown", "junit", "action-bigger", "action-smaller", "bencher"}
}

// Write writes d in the format of that name.
func Write(w io.Writer, name string, d *result.Document) error {
	write, ok := writers[name]
	if !ok {
		return fmt.Errorf("format %q is not known (want one of %s)", name, strings.Join(Names(), ", "))
	}
	return write(w, d)
}

// settings returns a variant's settings as k=v, sorted.
func settings(v *result.Variant) []string {
	all := make([]string, 0, len(v.Settings))
	for k, s := range v.Settings {
		all = append(all, k+"="+s)
	}
	slices.Sort(all)
	return all
}
