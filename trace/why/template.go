package why

import "strings"

// fill returns text with each {name} replaced by its value. What stands in
// brackets is left out if a value in it is not known; ok is false if another is
// not known.
func fill(text string, value func(string) string) (filled string, ok bool) {
	var b strings.Builder
	for text != "" {
		at := strings.IndexAny(text, "[{")
		if at < 0 {
			b.WriteString(text)
			break
		}
		b.WriteString(text[:at])
		inner, rest, _ := strings.Cut(text[at+1:], string(closing(text[at])))
		if text[at] == '{' {
			v := value(inner)
			if v == "" {
				return "", false
			}
			b.WriteString(v)
		} else if part, ok := fill(inner, value); ok {
			b.WriteString(part)
		}
		text = rest
	}
	return b.String(), true
}

func closing(open byte) byte {
	if open == '[' {
		return ']'
	}
	return '}'
}
