// Package source reads files that users write in YAML: it knows where each value
// stands, and tells all mistakes of a file at once. It is pure.
package source

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/nsbpf/nsbpf/internal/nearest"
)

// File is a file while it is read: it knows where each value stands and collects
// the mistakes.
type File struct {
	name  string
	lines []string
	at    map[string]Place // by path
	errs  []*Error
}

// Place is a position in the file, both numbers from 1; Col is in characters.
type Place struct{ Line, Col int }

// Node is a value of the file with its path, such as links[0].a.
type Node struct {
	ast.Node
	Path string
}

// Entry is a key of a mapping with its value.
type Entry struct {
	Key   string
	Value Node
}

// Read parses the YAML of src and returns its root, which is nil if src holds
// nothing or is not YAML. In the latter case a mistake is recorded. holds says what
// there is in a file, such as "one topology".
func Read(name string, src []byte, holds string) (*File, ast.Node) {
	s := &File{name: name, lines: strings.Split(string(src), "\n"), at: map[string]Place{"": {1, 1}}}
	f, err := parser.ParseBytes(src, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		s.syntax(err)
		return s, nil
	}
	var root ast.Node
	for _, doc := range f.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentType {
			continue
		}
		if root != nil {
			s.MistakeAt(position(doc.Body), "", "second YAML document", "a file holds "+holds)
			break
		}
		root = doc.Body
	}
	return s, root
}

func (s *File) syntax(err error) {
	var bad *yaml.SyntaxError
	if !errors.As(err, &bad) || bad.Token == nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		s.Mistake("", "YAML: "+first, "")
		return
	}
	hint := ""
	switch {
	case strings.HasPrefix(bad.Token.Value, ":"):
		hint = "quote what begins with a colon"
	case strings.HasPrefix(bad.Message, "invalid header option"):
		hint = "quote what begins with > or |"
	}
	s.MistakeAt(placeOf(bad.Token), "", "YAML: "+bad.Message, hint)
}

// Mistake records a mistake at path, or at the innermost value around path that
// stands in the file.
func (s *File) Mistake(path, msg, hint string) {
	around := path
	p, ok := s.at[around]
	for !ok {
		around = around[:max(0, strings.LastIndexAny(around, ".["))]
		p, ok = s.at[around]
	}
	s.MistakeAt(p, path, msg, hint)
}

// MistakeAt records a mistake at p.
func (s *File) MistakeAt(p Place, path, msg, hint string) {
	e := &Error{File: s.name, Line: p.Line, Col: p.Col, Path: path, Msg: msg, Hint: hint}
	if p.Line <= len(s.lines) {
		e.Source = strings.TrimSuffix(s.lines[p.Line-1], "\r")
	}
	s.errs = append(s.errs, e)
}

// Err returns all mistakes, each an [*Error], in the order of the file, or nil.
func (s *File) Err() error {
	slices.SortStableFunc(s.errs, func(a, b *Error) int {
		return cmp.Or(a.Line-b.Line, a.Col-b.Col)
	})
	var all []error
	for _, e := range s.errs {
		all = append(all, e)
	}
	return errors.Join(all...)
}

// Wrong says whether there is a mistake.
func (s *File) Wrong() bool { return len(s.errs) > 0 }

// At returns where the value at path stands.
func (s *File) At(path string) Place { return s.at[path] }

// Set notes where the value at path stands.
func (s *File) Set(path string, p Place) { s.at[path] = p }

// Child returns n's value under path and notes where it stands.
func (s *File) Child(n ast.Node, path string) Node {
	s.at[path] = position(n)
	return Node{n, path}
}

// Unwanted records that n is not what what should be.
func (s *File) Unwanted(n Node, what, want, hint string) {
	switch n.Node.(type) {
	case *ast.AnchorNode, *ast.AliasNode:
		hint = "YAML anchors and aliases are not supported"
	case *ast.TagNode:
		hint = "YAML tags are not supported"
	}
	s.at[n.Path] = position(n.Node)
	s.Mistake(n.Path, what+": want "+want, hint)
}

// Mapping returns the entries of n in order, and false if n is no mapping. Keys
// that stand twice are mistakes, and so are those that are not in known, unless
// known is nil. A value left out is an empty mapping.
func (s *File) Mapping(n Node, what string, known ...string) ([]Entry, bool) {
	var pairs []*ast.MappingValueNode
	switch m := n.Node.(type) {
	case *ast.MappingNode:
		pairs = m.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{m}
	case *ast.NullNode:
	default:
		s.Unwanted(n, what, "a mapping", "key: value")
		return nil, false
	}
	var entries []Entry
	seen := map[string]bool{}
	for _, kv := range pairs {
		key := kv.Key.GetToken().Value
		path, at := strings.TrimPrefix(n.Path+"."+key, "."), position(kv.Key)
		switch {
		case !isText(kv.Key):
			s.MistakeAt(at, path, fmt.Sprintf("%s: key %q is not a plain name", what, key), "")
		case seen[key]:
			s.MistakeAt(at, path, fmt.Sprintf("%q stands twice in %s", key, what), "remove one")
		case known != nil && !slices.Contains(known, key):
			hint := cmp.Or(nearest.Hint(key, known), "known: "+strings.Join(known, ", "))
			s.MistakeAt(at, path, fmt.Sprintf("unknown field %q in %s", key, what), hint)
		default:
			s.at[path] = at
			entries = append(entries, Entry{key, Node{kv.Value, path}})
		}
		seen[key] = true
	}
	return entries, true
}

// List returns the items of n. A single text is a list of one.
func (s *File) List(n Node, what string) []Node {
	seq, ok := n.Node.(*ast.SequenceNode)
	if !ok {
		if _, ok := Scalar(n.Node); ok {
			return []Node{s.Child(n.Node, n.Path)}
		}
		s.Unwanted(n, what, "a list", "[one, two]")
		return nil
	}
	var items []Node
	for i, v := range seq.Values {
		items = append(items, s.Child(v, fmt.Sprintf("%s[%d]", n.Path, i)))
	}
	return items
}

// Text returns n's text; anything but a scalar is a mistake.
func (s *File) Text(n Node, what string) (string, bool) {
	v, ok := Scalar(n.Node)
	s.at[n.Path] = position(n.Node)
	if !ok {
		s.Unwanted(n, what, "a text", "")
	}
	return v, ok
}

// Bool returns n's truth value; anything but true and false is a mistake.
func (s *File) Bool(n Node, what string) bool {
	b, ok := n.Node.(*ast.BoolNode)
	if !ok {
		s.Unwanted(n, what, "true or false", "")
		return false
	}
	return b.Value
}

// Scalar returns the text of a scalar as it was written, numbers included.
//
// Within {} the YAML library takes the first colon of an unquoted list item for
// the end of a key, even with no space behind it; here the two halves of an
// IPv6 address are put together again.
func Scalar(n ast.Node) (string, bool) {
	if isText(n) {
		return n.GetToken().Value, true
	}
	kv, ok := n.(*ast.MappingValueNode)
	if m, isMap := n.(*ast.MappingNode); isMap && len(m.Values) == 1 && m.Start.Value != "{" {
		kv, ok = m.Values[0], true
	}
	if !ok || kv.Value == nil || !isText(kv.Key) || !isText(kv.Value) {
		return "", false
	}
	key, colon, value := kv.Key.GetToken(), kv.Start, kv.Value.GetToken()
	joined := value.Position.Offset == colon.Position.Offset+1 &&
		colon.Position.Offset == key.Position.Offset+len(key.Value)
	return key.Value + ":" + value.Value, joined
}

func isText(n ast.Node) bool {
	switch n.(type) {
	case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.LiteralNode:
		return true
	}
	return false
}

// position returns where n begins: for a mapping that is its first key, not the
// colon behind it.
func position(n ast.Node) Place {
	switch m := n.(type) {
	case *ast.MappingNode:
		if len(m.Values) != 0 && m.Start.Value != "{" {
			return position(m.Values[0])
		}
	case *ast.MappingValueNode:
		return position(m.Key)
	}
	return placeOf(n.GetToken())
}

func placeOf(t *token.Token) Place { return Place{t.Position.Line, t.Position.Column} }
