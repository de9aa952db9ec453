package filter

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

type tokenKind uint8

const (
	end    tokenKind = iota
	word             // a keyword, a name, a number or an address
	symbol           // an operator or bracket; and, or and not are those, too
)

type token struct {
	kind tokenKind
	text string // operators in their first form: and for &&
	pos  int
}

// operators has the longer ones first.
var operators = []struct{ text, canonical string }{
	{"&&", "and"}, {"||", "or"}, {"!=", "!="}, {"==", "=="}, {"<=", "<="}, {">=", ">="},
	{"!", "not"}, {"=", "=="}, {"<", "<"}, {">", ">"}, {"&", "&"}, {"|", "|"},
	{"(", "("}, {")", ")"}, {"[", "["}, {"]", "]"}, {"/", "/"},
}

// lex splits s into tokens, the last of which is the end.
func lex(s string) ([]token, error) {
	var tokens []token
	for pos := 0; pos < len(s); {
		switch c := s[pos]; {
		case strings.IndexByte(" \t\r\n", c) >= 0:
			pos++
		case isWordByte(c):
			t := token{word, s[pos:], pos}
			if n := strings.IndexFunc(t.text, func(r rune) bool { return !isMicro(r) && (r > 127 || !isWordByte(byte(r))) }); n >= 0 {
				t.text = t.text[:n]
			}
			pos += len(t.text)
			if t.text == "and" || t.text == "or" || t.text == "not" {
				t.kind = symbol
			}
			tokens = append(tokens, t)
		default:
			t, n := lexOperator(s, pos)
			if n == 0 {
				r, _ := utf8.DecodeRuneInString(s[pos:])
				return nil, &Error{Expr: s, Pos: pos, Msg: fmt.Sprintf("unexpected character %q", r)}
			}
			tokens = append(tokens, t)
			pos += n
		}
	}
	return append(tokens, token{end, "end", len(s)}), nil
}

// lexOperator returns the operator at pos and its length, 0 if there is none.
func lexOperator(s string, pos int) (token, int) {
	for _, op := range operators {
		if strings.HasPrefix(s[pos:], op.text) {
			return token{symbol, op.canonical, pos}, len(op.text)
		}
	}
	return token{}, 0
}

// isWordByte says what words are made of; a backslash makes a keyword a name.
func isWordByte(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' ||
		strings.IndexByte(`.:-_\`, c) >= 0
}

// isMicro says what may be in a word besides: the µ of 10µs, which Unicode has twice.
func isMicro(r rune) bool { return r == 'µ' || r == 'μ' }
