package report

import (
	"io"
	"strconv"

	"github.com/nsbpf/nsbpf/internal/hop"
)

// Filter is a filter of the user's and what it did so far, in packets.
type Filter struct {
	ID      int
	Hop     hop.Hop
	Hook    string
	Expr    string
	Matched uint64 // dropped
	Unread  uint64 // passed, because the headers could not be read
}

// FiltersTable writes a line for each filter.
func FiltersTable(w io.Writer, filters []Filter, style Style) error {
	t := newTable(">ID", "HOP", "HOOK", ">MATCHED", ">UNREAD", "DROP")
	for _, f := range filters {
		t.row(strconv.Itoa(f.ID), f.Hop.String(), f.Hook, decimal(f.Matched), decimal(f.Unread), f.Expr)
	}
	return t.writeUnlessEmpty(w, style)
}

// FiltersJSON writes one object of schema nsbpf.filters/1.
func FiltersJSON(w io.Writer, lab string, filters []Filter) error {
	type filterDoc struct {
		ID      int    `json:"id"`
		Hop     string `json:"hop"`
		Hook    string `json:"hook"`
		Action  string `json:"action"`
		Expr    string `json:"expr"`
		Matched uint64 `json:"matched"`
		Unread  uint64 `json:"unread"`
	}
	doc := struct {
		Schema  string      `json:"schema"`
		Lab     string      `json:"lab"`
		Filters []filterDoc `json:"filters"`
	}{"nsbpf.filters/1", lab, []filterDoc{}}
	for _, f := range filters {
		doc.Filters = append(doc.Filters, filterDoc{f.ID, f.Hop.String(), f.Hook, "drop", f.Expr, f.Matched, f.Unread})
	}
	return encoder(w).Encode(doc)
}
