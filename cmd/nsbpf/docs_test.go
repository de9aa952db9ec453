package main

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/report"
	"github.com/nsbpf/nsbpf/trace"
	"github.com/nsbpf/nsbpf/trace/filter"
	"github.com/nsbpf/nsbpf/trace/recording"
	"github.com/nsbpf/nsbpf/trace/why"
)

// TestJSONIsDocumented looks up each key of the golden documents, and of those
// that have everything that one can have, in docs/json.md: in the chapter of the
// document's schema, or in one that this speaks of.
func TestJSONIsDocumented(t *testing.T) {
	docs := map[string]string{
		"a full path":      fullPath(t),
		"a full ledger":    fullLedger(t),
		"a full recording": fullRecording(t),
	}
	files, err := filepath.Glob("../../report/testdata/*.json")
	if err != nil || files == nil {
		t.Fatalf("no golden documents (%v)", err)
	}
	for _, file := range files {
		docs[filepath.Base(file)] = readText(t, file)
	}
	known := jsonWords(t)
	for name, text := range docs {
		schema := ""
		for dec := json.NewDecoder(strings.NewReader(text)); dec.More(); {
			var doc map[string]any
			if err := dec.Decode(&doc); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if s, ok := doc["schema"].(string); ok {
				schema = s
			}
			if known[schema] == nil {
				t.Fatalf("%s: docs/json.md has no chapter on %s", name, schema)
			}
			eachKey(doc, func(key string) {
				if !known[schema][key] {
					t.Errorf("%s: what docs/json.md says of %s does not speak of %q", name, schema, key)
				}
				known[schema][key] = true
			})
		}
	}
}

// jsonWords returns by schema the words of docs/json.md that speak of it.
func jsonWords(t *testing.T) map[string]map[string]bool {
	text := readText(t, "../../docs/json.md")
	schema := regexp.MustCompile(`nsbpf\.[a-z]+/[0-9]+`)
	texts := make(map[string]string)
	for _, c := range strings.Split(text, "\n## ") {
		name := schema.FindString(strings.SplitN(c, "\n", 2)[0])
		texts[name] = c
	}
	words := make(map[string]map[string]bool)
	for name, c := range texts {
		words[name] = map[string]bool{"schema": true, "filter": true, "x": true} // a reason, and a name
		for _, of := range append(schema.FindAllString(c, -1), name) {
			codeWords(texts[of], words[name])
		}
	}
	return words
}

// fullPath returns a document of a path with everything that one can have.
func fullPath(t *testing.T) string {
	var p trace.Path
	var c why.Conclusion
	fill(t, reflect.ValueOf(&p).Elem())
	fill(t, reflect.ValueOf(&c).Elem())
	p.Attempt = 2
	p.End, p.Drops[0].Step = 0, 0 // there is one step
	var out strings.Builder
	for _, proto := range []uint8{collector.ProtoTCP, collector.ProtoICMP} {
		p.Steps[0].Packet.EtherType, p.Steps[0].Packet.Proto = collector.EtherIPv4, proto
		p.Steps[0].Packet.ICMPType = 8
		p.Steps[0].Packet.Flags, p.Steps[0].Packet.Frag = 0, 0
		if err := report.NewPathJSON(&out, "lab", []hop.Hop{{ID: 1, Node: "a"}}, 1).Path(&p, &c); err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}

// fullLedger does it of a ledger.
func fullLedger(t *testing.T) string {
	var c report.Closing
	fill(t, reflect.ValueOf(&c).Elem())
	c.Sample = 2
	var out strings.Builder
	if err := report.ClosingJSON(&out, c); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// fullRecording returns a recording with everything but what is of other schemas.
func fullRecording(t *testing.T) string {
	var start recording.Start
	fill(t, reflect.ValueOf(&start).Elem())
	var out bytes.Buffer
	w, err := recording.NewWriter(&out, start)
	if err != nil {
		t.Fatal(err)
	}
	for i := range reflect.TypeFor[recording.Event]().NumField() {
		var e recording.Event
		fill(t, reflect.ValueOf(&e).Elem().Field(i))
		switch {
		case e.Path != nil:
			e.Path.JSON = json.RawMessage("{}")
		case e.Ledger != nil:
			e.Ledger = json.RawMessage("{}")
		}
		if err := w.Write(e); err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}

// fill sets all of v to other than the zero value.
func fill(t *testing.T, v reflect.Value) {
	t.Helper()
	switch v.Addr().Interface().(type) {
	case *netip.Addr:
		v.Set(reflect.ValueOf(netip.MustParseAddr("192.0.2.1")))
		return
	case *netip.Prefix:
		v.Set(reflect.ValueOf(netip.MustParsePrefix("192.0.2.0/24")))
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.String:
		v.SetString("x")
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(1)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(1)
	case reflect.Float64:
		v.SetFloat(1)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(t, v.Index(0))
	case reflect.Array:
		for i := range v.Len() {
			fill(t, v.Index(i))
		}
	case reflect.Map:
		key, of := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(t, key)
		fill(t, of)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, of)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(t, v.Field(i))
			}
		}
	default:
		t.Fatalf("%s cannot be filled", v.Type())
	}
}

// TestLinks follows the links between the documents: to files, and to chapters.
func TestLinks(t *testing.T) {
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, "../../README.md", "../../CONTRIBUTING.md") {
		for _, m := range linked.FindAllStringSubmatch(readText(t, file), -1) {
			path, chapter, _ := strings.Cut(m[1], "#")
			if strings.Contains(path, "://") {
				continue
			}
			to := file
			if path != "" {
				to = filepath.Join(filepath.Dir(file), path)
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s: link to %s: %v", file, m[1], err)
			} else if chapter != "" && !slices.Contains(chapters(readText(t, to)), chapter) {
				t.Errorf("%s: link to %s: there is no such chapter", file, m[1])
			}
		}
	}
}

// chapters returns the names by which the chapters of a document are linked to.
func chapters(markdown string) (names []string) {
	for _, m := range heading.FindAllStringSubmatch(markdown, -1) {
		name := unlinked.ReplaceAllString(strings.ToLower(m[1]), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}

var (
	linked   = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading  = regexp.MustCompile(`(?m)^#+ (.*)$`)
	unlinked = regexp.MustCompile(`[^a-z0-9 _-]`)
)

func readText(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestWordsAreDocumented looks up each word of the expressions in docs/trace.md.
func TestWordsAreDocumented(t *testing.T) {
	known := make(map[string]bool)
	codeWords(readText(t, "../../docs/trace.md"), known)
	for _, w := range filter.Words() {
		if w.Form != "" && !known[w.Text] {
			t.Errorf("docs/trace.md does not speak of %q", w.Text)
		}
	}
}

var (
	code     = regexp.MustCompile("`[^`\n]+`")
	codeWord = regexp.MustCompile(`[a-z][a-z0-9_-]*`)
)

// codeWords adds the words that stand in text between backquotes.
func codeWords(text string, words map[string]bool) {
	for _, s := range code.FindAllString(text, -1) {
		for _, w := range codeWord.FindAllString(s, -1) {
			words[w] = true
		}
	}
}

// eachKey calls fn for the keys of all objects in v.
func eachKey(v any, fn func(string)) {
	switch v := v.(type) {
	case map[string]any:
		for k, below := range v {
			fn(k)
			eachKey(below, fn)
		}
	case []any:
		for _, below := range v {
			eachKey(below, fn)
		}
	}
}
