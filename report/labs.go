package report

import (
	"io"
	"strconv"
	"time"
)

// Lab is one of the labs on this host.
type Lab struct {
	Name  string
	State string // up, or broken: an up that did not end
	Nodes int
	Links int
	Age   time.Duration
}

// LabsTable writes a line for each lab, and nothing if there is none.
func LabsTable(w io.Writer, labs []Lab, style Style) error {
	t := newTable("LAB", "STATE", ">NODES", ">LINKS", ">AGE")
	for _, l := range labs {
		t.row(l.Name, l.State, strconv.Itoa(l.Nodes), strconv.Itoa(l.Links), age(l.Age))
	}
	return t.writeUnlessEmpty(w, style)
}

// LabsJSON writes one object of schema nsbpf.labs/1.
func LabsJSON(w io.Writer, labs []Lab) error {
	type labDoc struct {
		Name  string `json:"name"`
		State string `json:"state"`
		Nodes int    `json:"nodes"`
		Links int    `json:"links"`
		AgeNS int64  `json:"age_ns"`
	}
	doc := struct {
		Schema string   `json:"schema"`
		Labs   []labDoc `json:"labs"`
	}{"nsbpf.labs/1", []labDoc{}}
	for _, l := range labs {
		doc.Labs = append(doc.Labs, labDoc{l.Name, l.State, l.Nodes, l.Links, int64(l.Age)})
	}
	return encoder(w).Encode(doc)
}

// age returns d in its largest whole unit: 5s, 12m, 3h, 8d.
func age(d time.Duration) string {
	day := 24 * time.Hour
	switch {
	case d < 0:
		return "0s"
	case d < time.Minute:
		return strconv.Itoa(int(d/time.Second)) + "s"
	case d < time.Hour:
		return strconv.Itoa(int(d/time.Minute)) + "m"
	case d < day:
		return strconv.Itoa(int(d/time.Hour)) + "h"
	}
	return strconv.Itoa(int(d/day)) + "d"
}
