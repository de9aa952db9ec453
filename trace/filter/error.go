package filter

import (
	"fmt"
	"strings"
)

// Error says what is wrong with an expression, and where.
type Error struct {
	Expr string
	Pos  int    // offset in Expr of the byte that is wrong; len(Expr) at its end
	Msg  string // what is wrong
	Hint string // how to mend it; may be empty
}

// Error returns one line.
func (e *Error) Error() string {
	return fmt.Sprintf("filter %q: column %d: %s", e.Expr, e.column()+1, e.cause())
}

// Excerpt returns two lines, each with its newline: the expression, and a caret
// below the place that is wrong.
func (e *Error) Excerpt() string {
	line := strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, e.Expr)
	return "  " + line + "\n  " + strings.Repeat(" ", e.column()) + "^\n"
}

func (e *Error) cause() string {
	if e.Hint == "" {
		return e.Msg
	}
	return e.Msg + " (" + e.Hint + ")"
}

// column counts characters, not bytes.
func (e *Error) column() int { return len([]rune(e.Expr[:e.Pos])) }
