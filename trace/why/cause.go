package why

import (
	_ "embed"
	"strings"
	"sync"

	"github.com/goccy/go-yaml"

	"github.com/nsbpf/nsbpf/trace"
)

//go:embed causes.yaml
var text []byte

// table is causes.yaml.
type table struct {
	Hooks  map[string]string // by the function that asks netfilter
	Arms   map[string]string // what an entry of cause.Arm says
	Causes []cause

	harmless []*cause
}

// Words of cause.Arm that are left out where it was armed, and the one that is added
// where the kernel hides its functions.
const (
	armDrops     = "drops"
	armExplain   = "explain"
	armFunctions = "functions"
)

// cause is one entry of the table. It is the one if the kernel's reason and
// function are named in Kernel, what is asked in When holds, and every value is
// known that its texts need.
type cause struct {
	Code      string
	Kernel    []string          // as REASON, REASON@function or @function; * stands for any rest
	Filtered  bool              // instead: a filter of the user's dropped it
	Lost      bool              // instead: it was not seen again, and the kernel says nothing
	Harmless  bool              // a packet that was delivered had done its work
	Group     bool              // only of packets for more than one receiver
	When      map[string]string // by the name of a value what it must be; see fits
	Place     string            // where it happened; "": the node
	Say       string            // the sentence, behind the place
	Do        string            // the advice
	Uncertain bool              // it is likely only, or says that it is not known
	Arm       []string          // what would tell more

	patterns []pattern
}

func (k *cause) place() string {
	if k.Place == "" {
		return "{node}"
	}
	return k.Place
}

// names says whether Kernel names d's reason and function.
func (k *cause) names(d *trace.Drop) bool {
	for i := range k.patterns {
		p := &k.patterns[i]
		if (p.reason == "" || matches(p.reason, d.Reason)) && (!p.asks || matches(p.function, bare(d.Function))) {
			return true
		}
	}
	return false
}

// pattern is one of a cause's Kernel.
type pattern struct {
	reason, function string
	asks             bool // for the function
}

// prepare reads what is asked of often.
func (t *table) prepare() {
	for i := range t.Causes {
		k := &t.Causes[i]
		for _, s := range k.Kernel {
			var p pattern
			p.reason, p.function, p.asks = strings.Cut(s, "@")
			k.patterns = append(k.patterns, p)
		}
		if k.Harmless {
			t.harmless = append(t.harmless, k)
		}
	}
}

// tells says whether it matters which function of the kernel's gave a reason.
func (t *table) tells(reason string) bool {
	for i := range t.Causes {
		for _, p := range t.Causes[i].Kernel {
			if r, _, asks := strings.Cut(p, "@"); asks && r == reason && !t.Causes[i].Harmless {
				return true
			}
		}
	}
	return false
}

// bare returns a function's name without what the compiler adds where it makes
// several of one.
func bare(function string) string {
	name, _, _ := strings.Cut(function, ".")
	return name
}

func matches(pattern, name string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(name, prefix)
	}
	return pattern == name
}

// causes returns the table. That it can be read is proven by a test.
var causes = sync.OnceValue(func() *table {
	t := new(table)
	if err := yaml.UnmarshalWithOptions(text, t, yaml.Strict()); err != nil {
		panic(err)
	}
	t.prepare()
	return t
})
