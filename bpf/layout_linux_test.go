package bpf

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"
)

// member is a struct's member as both languages have it.
type member struct {
	Name         string // lower case, without underscores
	Offset, Size int
}

// layouts are the structs of hop.h and latency.h under their names there.
var layouts = map[string]reflect.Type{
	"count":    reflect.TypeFor[Count](),
	"ledger":   reflect.TypeFor[Ledger](),
	"packet":   reflect.TypeFor[Packet](),
	"tuple":    reflect.TypeFor[Tuple](),
	"sighting": reflect.TypeFor[Sighting](),
	"step":     reflect.TypeFor[Step](),
	"run":      reflect.TypeFor[Run](),
	"drop":     reflect.TypeFor[Drop](),
	"passage":  reflect.TypeFor[Passage](),
	"snap":     reflect.TypeFor[Snap](),

	"histogram": reflect.TypeFor[Histogram](),
	"timing":    reflect.TypeFor[Timing](),
	"edge":      reflect.TypeFor[Edge](),
}

// Every struct of hop.h and latency.h has one layout in Go and in the objects of both byte
// orders.
func TestStructs(t *testing.T) {
	for _, order := range []string{"bpfel", "bpfeb"} {
		seen := make(map[string]bool)
		for _, spec := range objects(t, order) {
			for name, goType := range layouts {
				var c *btf.Struct
				if err := spec.Types.TypeByName(name, &c); err != nil {
					continue // not in this object
				}
				seen[name] = true
				if got, want := uintptr(c.Size), goType.Size(); got != want {
					t.Errorf("%s: struct %s has %d bytes, in Go %d", order, name, got, want)
				}
				if diff := cmp.Diff(cMembers(t, c), goMembers(goType)); diff != "" {
					t.Errorf("%s: struct %s (-C +Go):\n%s", order, name, diff)
				}
			}
		}
		if len(seen) != len(layouts) {
			t.Errorf("%s: the objects' BTF has only %v of the structs", order, seen)
		}
	}
}

// The enums are not in the objects' BTF, because no map or global function
// bears them; the source is compared.
func TestEnums(t *testing.T) {
	want := map[string]int{
		"REASON_PASS": int(ReasonPass), "REASON_FILTER": int(ReasonFilter), "REASON_COUNT": int(ReasonCount),
		"OUTCOME_MATCHED": int(OutcomeMatched), "OUTCOME_UNREAD": int(OutcomeUnread), "OUTCOME_COUNT": int(OutcomeCount),
		"PACKET_SHORT": int(PacketShort), "PACKET_FRAGMENT": int(PacketFragment),
		"PACKET_PORTS": int(PacketPorts), "PACKET_VLAN": int(PacketVLAN), "PACKET_QINQ": int(PacketQinQ),
		"RECORD_DROP": int(RecordDrop), "RECORD_PASSAGE": int(RecordPassage), "RECORD_SNAP": int(RecordSnap),
	}
	if diff := cmp.Diff(enumerators(t, "hop.h"), want); diff != "" {
		t.Errorf("hop.h and layout.go (-C +Go):\n%s", diff)
	}
	want = map[string]int{
		"EDGE_NONE": int(EdgeNone), "EDGE_DIRECT": int(EdgeDirect), "EDGE_STACK": int(EdgeStack), "EDGE_COUNT": int(EdgeCount),
	}
	if diff := cmp.Diff(enumerators(t, "latency.h"), want); diff != "" {
		t.Errorf("latency.h and latency.go (-C +Go):\n%s", diff)
	}
	want = map[string]int{"LEDGER_DROPS": LedgerDrops, "LEDGER_PASSAGES": LedgerPassages}
	if diff := cmp.Diff(enumerators(t, "explain.c"), want); diff != "" || len(want) != OtherLedgers {
		t.Errorf("explain.c and explain_linux.go (-C +Go), %d ledgers:\n%s", OtherLedgers, diff)
	}
	for r := range ReasonCount {
		if r.String() == "unknown" {
			t.Errorf("reason %d has no name", r)
		}
	}
	if got := ReasonCount.String(); got != "unknown" {
		t.Errorf("ReasonCount.String() = %q, want unknown", got)
	}
}

// objects loads the committed objects of one byte order.
func objects(t *testing.T, order string) []*ebpf.CollectionSpec {
	t.Helper()
	files, err := filepath.Glob("*_" + order + ".o")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 6 {
		t.Fatalf("objects of %s: %v, want count, filter, trace, latency, explain and generate", order, files)
	}
	var specs []*ebpf.CollectionSpec
	for _, f := range files {
		spec, err := ebpf.LoadCollectionSpec(f)
		if err != nil {
			t.Fatal(err)
		}
		specs = append(specs, spec)
	}
	return specs
}

func cMembers(t *testing.T, s *btf.Struct) []member {
	t.Helper()
	var ms []member
	for _, m := range s.Members {
		size, err := btf.Sizeof(m.Type)
		if err != nil {
			t.Fatal(err)
		}
		ms = append(ms, member{plainName(m.Name), int(m.Offset.Bytes()), size})
	}
	return ms
}

func goMembers(s reflect.Type) []member {
	var ms []member
	for i := range s.NumField() {
		if f := s.Field(i); f.Type.Size() > 0 {
			ms = append(ms, member{plainName(f.Name), int(f.Offset), int(f.Type.Size())})
		}
	}
	return ms
}

// plainName is what the two ways to write a member's name have in common.
func plainName(name string) string {
	switch {
	case name == "_", strings.HasPrefix(name, "pad"):
		return "pad"
	case name == "pkt":
		return "packet"
	}
	return strings.ToLower(strings.ReplaceAll(name, "_", ""))
}

var (
	cComment = regexp.MustCompile(`(?s)/\*.*?\*/`)
	cEnum    = regexp.MustCompile(`enum \w+ \{([^}]*)\};`)
	cShift   = regexp.MustCompile(`^(\w+) = 1 << (\d+)$`)
	cNumber  = regexp.MustCompile(`^(\w+) = (0x[0-9a-f]+)$`)
)

// enumerators returns the constants of a C file's enums: plain lists that count
// from 0, bits as 1 << n, and numbers in base 16.
func enumerators(t *testing.T, file string) map[string]int {
	t.Helper()
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]int)
	for _, e := range cEnum.FindAllStringSubmatch(cComment.ReplaceAllString(string(src), ""), -1) {
		n := 0
		for _, word := range strings.Split(strings.TrimRight(strings.TrimSpace(e[1]), ","), ",") {
			word = strings.TrimSpace(word)
			if m := cShift.FindStringSubmatch(word); m != nil {
				bit, err := strconv.Atoi(m[2])
				if err != nil {
					t.Fatal(err)
				}
				word, n = m[1], 1<<bit
			} else if m := cNumber.FindStringSubmatch(word); m != nil {
				value, err := strconv.ParseInt(m[2], 0, 32)
				if err != nil {
					t.Fatal(err)
				}
				word, n = m[1], int(value)
			}
			values[word] = n
			n++
		}
	}
	return values
}
