package assert

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Limit is what a measured value is compared with.
type Limit struct {
	Of    string  // min, p50, p90, p99 or max; "" of a value that is one
	Op    string  // <, <=, > or >=
	Value float64 // ns, or percent
	text  string  // of Value, as the file has it
}

// String returns the limit as "p50 < 5ms", or "< 1%".
func (l Limit) String() string { return strings.TrimSpace(l.Of + " " + l.Op + " " + l.text) }

// holds says whether v is within l.
func (l Limit) holds(v float64) bool {
	switch l.Op {
	case "<":
		return v < l.Value
	case "<=":
		return v <= l.Value
	case ">":
		return v > l.Value
	}
	return v >= l.Value
}

// parseLimit reads an operator and a value, which parse understands.
func parseLimit(s string, parse func(string) (float64, error)) (l Limit, err error) {
	rest := strings.TrimLeft(s, "<>=")
	l.Op, l.text = s[:len(s)-len(rest)], strings.TrimSpace(rest)
	if !slices.Contains([]string{"<", "<=", ">", ">="}, l.Op) {
		return l, fmt.Errorf("%q does not begin with <, <=, > or >=", s)
	}
	l.Value, err = parse(l.text)
	return l, err
}

func parseTime(s string) (float64, error) {
	d, err := time.ParseDuration(strings.ReplaceAll(s, " ", ""))
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is no time", s)
	}
	return float64(d), nil
}

func parsePercent(s string) (float64, error) {
	number, ok := strings.CutSuffix(s, "%")
	v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if !ok || err != nil || !(v >= 0 && v <= 100) {
		return 0, fmt.Errorf("%q is no percentage", s)
	}
	return v, nil
}

// quantiles are what a limit of times can be of.
var quantiles = []string{"min", "p50", "p90", "p99", "max"}

// quantile returns one of [quantiles] of ds, which are not empty, by nearest rank.
func quantile(of string, ds []time.Duration) time.Duration {
	ds = slices.Sorted(slices.Values(ds))
	share := map[string]float64{"p50": 0.50, "p90": 0.90, "p99": 0.99, "max": 1}[of]
	rank := int(math.Ceil(share * float64(len(ds))))
	return ds[max(rank, 1)-1]
}
