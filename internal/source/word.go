package source

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Word is a piece of a text, and where it stands.
type Word struct {
	Text string
	Place
}

// Words returns what stands between the spaces of line, the text of n.
func (s *File) Words(n Node, line string) []Word {
	at := s.at[n.Path]
	if t := n.GetToken(); t.Value != t.Origin && strings.ContainsAny(t.Origin, `"'`) {
		at.Col++ // behind the quote
	}
	var words []Word
	for rest := line; ; {
		rest = strings.TrimLeftFunc(rest, unicode.IsSpace)
		if rest == "" {
			return words
		}
		end := strings.IndexFunc(rest, unicode.IsSpace)
		if end < 0 {
			end = len(rest)
		}
		before := utf8.RuneCountInString(line[:len(line)-len(rest)])
		words = append(words, Word{rest[:end], Place{at.Line, at.Col + before}})
		rest = rest[end:]
	}
}
