package result

import (
	"slices"
	"time"
)

// Schema is what a Document is of.
const Schema = "nsbpf.bench/1"

// Document is one run of nsbpf bench.
type Document struct {
	Schema  string   `json:"schema"`
	Version string   `json:"version"` // of nsbpf
	TimeNS  int64    `json:"time_ns"` // when it began, since the epoch
	Args    []string `json:"args"`    // of the command line, without the program
	Lab     string   `json:"lab"`
	From    string   `json:"from"`           // a node
	To      string   `json:"to"`             // a node
	Path    []string `json:"path,omitempty"` // the hops between them, as hop.Hop prints itself

	Environment Environment   `json:"environment"`
	Rounds      int           `json:"rounds"`      // that were kept of each variant; fewer if interrupted
	Duration    time.Duration `json:"duration_ns"` // of one sample
	Variants    []Variant     `json:"variants"`
	// Noise is what two equal variants differed by; nil if none was measured twice.
	Noise       *Noise   `json:"noise,omitempty"`
	Interrupted bool     `json:"interrupted,omitempty"`
	Notes       []string `json:"notes,omitempty"` // for people: what was prepared, left out, doubtful
}

// Variant returns the variant of that name, nil if there is none.
func (d *Document) Variant(name string) *Variant {
	if i := slices.IndexFunc(d.Variants, func(v Variant) bool { return v.Name == name }); i >= 0 {
		return &d.Variants[i]
	}
	return nil
}

// Variant is one load over the path, in one state of the lab. All variants of a
// Document are measured in turn, so that their samples of a round belong together.
type Variant struct {
	Name string `json:"name"` // unique in the Document
	// Settings are what distinguishes it: mode, size, flows, threads, rate, hook, mtu…
	Settings map[string]string `json:"settings"`
	// Reference says that it measures the machine alone: neither the lab's path nor
	// what is compared has a part in it. If it differs, the machine does.
	Reference bool     `json:"reference,omitempty"`
	Metrics   []Metric `json:"metrics"`
	// Limited says why the generator and not the path may be what was measured.
	Limited    string    `json:"limited,omitempty"`
	Account    Account   `json:"account"`
	Hops       []HopCost `json:"hops,omitempty"`       // in order of the path
	Bottleneck string    `json:"bottleneck,omitempty"` // one sentence
	// Latency is of all rounds together; nil if times were not measured.
	Latency *Histogram `json:"latency,omitempty"`
	Curve   []Point    `json:"curve,omitempty"` // of loss and latency, by offered rate
}

// Metric returns the metric of that name, nil if there is none.
func (v *Variant) Metric(name string) *Metric {
	if i := slices.IndexFunc(v.Metrics, func(m Metric) bool { return m.Name == name }); i >= 0 {
		return &v.Metrics[i]
	}
	return nil
}

// Better is the direction in which a metric improves.
type Better string

const (
	Higher Better = "higher"
	Lower  Better = "lower"
)

// Metric is one figure of a variant, with a sample of each round.
type Metric struct {
	Name   string `json:"name"` // unique in the Variant, such as cpu or rate
	Unit   string `json:"unit"` // such as ns/packet, pps, Gbit/s
	Better Better `json:"better"`
	// Gate says that compare judges it. Rates of shared machines drift, so they are
	// shown and not judged.
	Gate    bool      `json:"gate,omitempty"`
	Samples []float64 `json:"samples"` // in the order taken
	Median  float64   `json:"median"`
	Low     float64   `json:"low"`  // of the interval of the median
	High    float64   `json:"high"` // of the interval of the median
	// Confidence is the interval's: 0.95 at least, or what few samples can give.
	Confidence float64 `json:"confidence"`
}

// Account says what became of every packet of a variant, in all rounds.
type Account struct {
	Sent     uint64     `json:"sent"`
	Received uint64     `json:"received"` // at the sink
	Seen     []HopCount `json:"seen,omitempty"`
	Lost     []Loss     `json:"lost,omitempty"`
}

// Unexplained returns how many packets were sent and neither received nor lost at
// a known place; below 0 if more are accounted for than were sent.
func (a *Account) Unexplained() int64 {
	rest := int64(a.Sent - a.Received)
	for _, l := range a.Lost {
		rest -= int64(l.Count)
	}
	return rest
}

// HopCount is how many packets came to a hop.
type HopCount struct {
	Hop   string `json:"hop"`
	Count uint64 `json:"count"`
}

// Loss is how many packets ended at a place that is not the sink.
type Loss struct {
	Place string `json:"place"` // such as veth ring, backlog, qdisc, netfilter, socket
	Count uint64 `json:"count"`
}

// HopCost is a hop's part of the time that packets take of the CPUs.
type HopCost struct {
	Hop         string  `json:"hop"`
	NSPerPacket float64 `json:"ns_per_packet"`
	Share       float64 `json:"share"` // of all hops, 0…1
	Dropped     uint64  `json:"dropped,omitempty"`
}

// Point is one offered rate of a search (RFC 2544, section 26).
type Point struct {
	Offered  float64 `json:"offered_pps"`
	Received float64 `json:"received_pps"`
	Loss     float64 `json:"loss"` // share of what was sent, 0…1
	P50      int64   `json:"p50_ns,omitempty"`
	P99      int64   `json:"p99_ns,omitempty"`
}

// Noise is what an A/A comparison found: a variant that was measured twice in each
// round.
type Noise struct {
	Variant string        `json:"variant"`
	Metrics []MetricNoise `json:"metrics"`
}

// MetricNoise is the difference between two equal measurements of one metric.
type MetricNoise struct {
	Metric string  `json:"metric"`
	Ratio  float64 `json:"ratio"` // round by round, see stat.PairedRatio
	Low    float64 `json:"low"`   // of its interval
	High   float64 `json:"high"`
	// Floor is the effect, as a part of 1, that chance alone shows here. Nothing
	// smaller is a finding.
	Floor float64 `json:"floor"`
}

// Of returns the noise of a metric, nil if it was not measured.
func (n *Noise) Of(metric string) *MetricNoise {
	if n == nil {
		return nil
	}
	if i := slices.IndexFunc(n.Metrics, func(m MetricNoise) bool { return m.Metric == metric }); i >= 0 {
		return &n.Metrics[i]
	}
	return nil
}
