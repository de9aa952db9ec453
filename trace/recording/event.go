package recording

import (
	"encoding/json"
	"net/netip"

	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/forward"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/trace"
)

// Schema is that of the recordings that this version writes, and the only one
// that it reads.
const Schema = "nsbpf.recording/1"

// Start is what is known of a trace before anything came.
type Start struct {
	Schema  string   `json:"schema"`  // set by the writer
	Version string   `json:"version"` // of nsbpf
	Args    []string `json:"args"`    // the command line, without the program
	Kernel  string   `json:"kernel"`  // its release
	Lab     string   `json:"lab"`
	TimeNS  int64    `json:"time_ns"` // since the epoch
	// EpochNS is what to add to times of the sightings to have ns since the epoch.
	EpochNS int64                   `json:"epoch_ns"`
	Hops    []hop.Hop               `json:"hops"`
	Edges   []hop.Edge              `json:"edges"`
	Owners  map[string][]netip.Addr `json:"owners"` // by node; see [trace.Config]
	Nodes   []string                `json:"nodes"`
	// Bare are the hops whose packets have no Ethernet header.
	Bare []hop.ID `json:"bare,omitempty"`
	Expr string   `json:"expr,omitempty"`
	// Shown is the expression that chose, of what Expr had chosen, what a replay
	// showed and recorded; "": it chose nothing.
	Shown    string   `json:"shown,omitempty"`
	Sample   uint32   `json:"sample,omitempty"` // one of so many packets; 0 and 1: all
	Rate     uint32   `json:"rate,omitempty"`   // packets a second at most; 0: all
	Identity string   `json:"identity,omitempty"`
	Hook     string   `json:"hook,omitempty"`
	Explain  bool     `json:"explain,omitempty"`  // that was asked for
	Sees     []string `json:"sees,omitempty"`     // what was watched besides the hops: drops, netfilter, rules
	Unarmed  []string `json:"unarmed,omitempty"`  // what was asked for and could not be watched
	Count    uint64   `json:"count,omitempty"`    // how many paths were asked for; 0: all
	SnapLen  int      `json:"snap_len,omitempty"` // bytes kept of a packet; 0: none
}

// Event is one thing that a trace was told or that came of it: exactly one field
// is set.
type Event struct {
	// Input is what the joiner was told. That it gives sightings as steps of runs,
	// and where a batch ended, is kept; of a dropped or ruled packet's sighting
	// Steps and Tracked say nothing and are not.
	Input   *trace.Input
	Snaps   []collector.Snap
	Filters []Filter      // all that there are from now on; none: an empty slice
	Node    *forward.Node // its configuration, when it was read
	Path    *Path
	Ledger  json.RawMessage    // the line of schema nsbpf.ledger/1
	Counts  *collector.Ledgers // up to now
	Losses  *Losses            // of a node, since the trace began
	End     *End
	// Next is the name of the file in which the recording goes on; nothing follows. A
	// file that is opened by its name goes on there, and this is told if that is not
	// there.
	Next string
}

func (e *Event) empty() bool {
	return e.Input == nil && e.Snaps == nil && e.Filters == nil && e.Node == nil &&
		e.Path == nil && e.Ledger == nil && e.Counts == nil && e.Losses == nil && e.End == nil && e.Next == ""
}

// Filter is a filter of the user's that drops packets at a hop.
type Filter struct {
	ID   int    `json:"id"`
	Hop  hop.ID `json:"hop"`
	Expr string `json:"expr"`
}

// Path is a packet's path as the trace gave it. A replay comes to it again.
type Path struct {
	JSON json.RawMessage // the line of schema nsbpf.path/1; what is read was not checked
	// Joined and Comment are what a capture file shows: the packet at each step,
	// and a comment at the last. Nil and "" if they are read.
	Joined  *trace.Path
	Comment string
}

// Losses are the counters of a node that count losses and grew.
type Losses struct {
	Node   string         `json:"node"`
	Losses []forward.Loss `json:"losses"`
}

// End is what a trace knows when it is over.
type End struct {
	Ledgers collector.Ledgers
	// RulingsLost is what nft said and there was no room for.
	RulingsLost uint64
	// DropsMissed is how often the kernel could not tell of a drop, since it was just
	// telling of another on that CPU. It is of the whole machine.
	DropsMissed uint64
	Cost        collector.Cost
}
