package source

import "fmt"

// Error is a mistake in a file that the user wrote, or in what was made of it.
type Error struct {
	File string // empty if it is not from a file
	Line int    // from 1; 0 if there is no file
	Col  int    // in characters, from 1
	Path string // of the value, such as links[0].a.device
	// Source is the line of the file.
	Source string
	Msg    string
	Hint   string // how to mend it; may be empty
}

// Error returns one line: where, what, and the hint in parentheses.
func (e *Error) Error() string {
	s := e.Msg
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	switch {
	case e.File == "":
		return s
	case e.Line == 0:
		return e.File + ": " + s
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Col, s)
}

// Excerpt returns the line of the file and a caret below the mistake, each with
// a newline, or "" if there is no file.
func (e *Error) Excerpt() string {
	if e.Line == 0 {
		return ""
	}
	number := fmt.Sprint(e.Line)
	before := []rune(e.Source)
	before = before[:max(0, min(e.Col-1, len(before)))]
	for i, r := range before {
		if r != '\t' {
			before[i] = ' '
		}
	}
	return fmt.Sprintf("  %s | %s\n  %*s | %s^\n", number, e.Source, len(number), "", string(before))
}
