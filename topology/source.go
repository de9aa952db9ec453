package topology

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

// source is a file while it is read: it knows where each value stands and
// collects the mistakes.
type source struct {
	file  string
	lines []string
	at    map[string]place // by path
	errs  []*Error
}

// place is a position in the file, both numbers from 1.
type place struct{ line, col int }

// node is a value of the file with its path.
type node struct {
	ast.Node
	path string
}

// entry is a key of a mapping with its value.
type entry struct {
	key   string
	value node
}

// readSource parses the YAML of src and returns its root, which is nil if src
// holds nothing or is not YAML. In the latter case a mistake is recorded.
func readSource(file string, src []byte) (*source, ast.Node) {
	s := &source{file: file, lines: strings.Split(string(src), "\n"), at: map[string]place{"": {1, 1}}}
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
			s.mistakeAt(position(doc.Body), "", "second YAML document", "a file holds one topology")
			break
		}
		root = doc.Body
	}
	return s, root
}

func (s *source) syntax(err error) {
	var bad *yaml.SyntaxError
	if !errors.As(err, &bad) || bad.Token == nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		s.mistake("", "YAML: "+first, "")
		return
	}
	hint := ""
	if strings.HasPrefix(bad.Token.Value, ":") {
		hint = "quote what begins with a colon"
	}
	s.mistakeAt(placeOf(bad.Token), "", "YAML: "+bad.Message, hint)
}

// mistake records a mistake at path, or at the innermost value around path that
// stands in the file.
func (s *source) mistake(path, msg, hint string) {
	around := path
	p, ok := s.at[around]
	for !ok {
		around = around[:max(0, strings.LastIndexAny(around, ".["))]
		p, ok = s.at[around]
	}
	s.mistakeAt(p, path, msg, hint)
}

func (s *source) mistakeAt(p place, path, msg, hint string) {
	e := &Error{File: s.file, Line: p.line, Col: p.col, Path: path, Msg: msg, Hint: hint}
	if p.line <= len(s.lines) {
		e.Source = strings.TrimSuffix(s.lines[p.line-1], "\r")
	}
	s.errs = append(s.errs, e)
}

// err returns all mistakes in the order of the file, or nil.
func (s *source) err() error {
	slices.SortStableFunc(s.errs, func(a, b *Error) int {
		return cmp.Or(a.Line-b.Line, a.Col-b.Col)
	})
	var all []error
	for _, e := range s.errs {
		all = append(all, e)
	}
	return errors.Join(all...)
}

// child returns n's value under path and notes where it stands.
func (s *source) child(n ast.Node, path string) node {
	s.at[path] = position(n)
	return node{n, path}
}

// unwanted records that n is not what what should be.
func (s *source) unwanted(n node, what, want, hint string) {
	switch n.Node.(type) {
	case *ast.AnchorNode, *ast.AliasNode:
		hint = "YAML anchors and aliases are not supported"
	case *ast.TagNode:
		hint = "YAML tags are not supported"
	}
	s.at[n.path] = position(n.Node)
	s.mistake(n.path, what+": want "+want, hint)
}

// mapping returns the entries of n in order, and false if n is no mapping. Keys
// that stand twice are mistakes, and so are those that are not in known, unless
// known is nil. A value left out is an empty mapping.
func (s *source) mapping(n node, what string, known ...string) ([]entry, bool) {
	var pairs []*ast.MappingValueNode
	switch m := n.Node.(type) {
	case *ast.MappingNode:
		pairs = m.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{m}
	case *ast.NullNode:
	default:
		s.unwanted(n, what, "a mapping", "key: value")
		return nil, false
	}
	var entries []entry
	seen := map[string]bool{}
	for _, kv := range pairs {
		key := kv.Key.GetToken().Value
		path, at := strings.TrimPrefix(n.path+"."+key, "."), position(kv.Key)
		switch {
		case !isText(kv.Key):
			s.mistakeAt(at, path, fmt.Sprintf("%s: key %q is not a plain name", what, key), "")
		case seen[key]:
			s.mistakeAt(at, path, fmt.Sprintf("%q stands twice in %s", key, what), "remove one")
		case known != nil && !slices.Contains(known, key):
			hint := cmp.Or(nearest.Hint(key, known), "known: "+strings.Join(known, ", "))
			s.mistakeAt(at, path, fmt.Sprintf("unknown field %q in %s", key, what), hint)
		default:
			s.at[path] = at
			entries = append(entries, entry{key, node{kv.Value, path}})
		}
		seen[key] = true
	}
	return entries, true
}

// list returns the items of n. A single text is a list of one.
func (s *source) list(n node, what string) []node {
	seq, ok := n.Node.(*ast.SequenceNode)
	if !ok {
		if _, ok := text(n.Node); ok {
			return []node{s.child(n.Node, n.path)}
		}
		s.unwanted(n, what, "a list", "[one, two]")
		return nil
	}
	var items []node
	for i, v := range seq.Values {
		items = append(items, s.child(v, fmt.Sprintf("%s[%d]", n.path, i)))
	}
	return items
}

// text returns n's text; anything but a scalar is a mistake.
func (s *source) text(n node, what string) (string, bool) {
	v, ok := text(n.Node)
	s.at[n.path] = position(n.Node)
	if !ok {
		s.unwanted(n, what, "a text", "")
	}
	return v, ok
}

// bool returns n's truth value; anything but true and false is a mistake.
func (s *source) bool(n node, what string) bool {
	b, ok := n.Node.(*ast.BoolNode)
	if !ok {
		s.unwanted(n, what, "true or false", "")
		return false
	}
	return b.Value
}

// text returns the text of a scalar as it was written, numbers included.
//
// Within {} the YAML library takes the first colon of an unquoted list item for
// the end of a key, even with no space behind it; here the two halves of an
// IPv6 address are put together again.
func text(n ast.Node) (string, bool) {
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
func position(n ast.Node) place {
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

func placeOf(t *token.Token) place { return place{t.Position.Line, t.Position.Column} }
