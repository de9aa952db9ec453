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
}

func (k *cause) place() string {
	if k.Place == "" {
		return "{node}"
	}
	return k.Place
}

// names says whether Kernel names d's reason and function.
func (k *cause) names(d *trace.Drop) bool {
	for _, p := range k.Kernel {
		reason, function, asks := strings.Cut(p, "@")
		if (reason == "" || matches(reason, d.Reason)) && (!asks || matches(function, bare(d.Function))) {
			return true
		}
	}
	return false
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
	return t
})
