package bench

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/nsbpf/nsbpf/bench/load"
)

// Axis is a setting and the values that it takes in turn.
type Axis struct {
	Key    string
	Values []string
}

// loadKeys are the settings of a load that [Set] takes.
var loadKeys = []string{"mode", "size", "flows", "threads", "rate", "gso", "over-udp", "reset", "cpus"}

// stateKeys are those of the lab.
var stateKeys = []string{"hook", "mtu"}

// Keys are what can be varied.
func Keys() []string { return slices.Concat(loadKeys, stateKeys) }

// ParseAxis reads KEY=A,B. The values of cpus have + where others have a comma.
func ParseAxis(s string) (Axis, error) {
	key, list, ok := strings.Cut(s, "=")
	switch {
	case !ok:
		return Axis{}, fmt.Errorf("%q varies nothing (want KEY=A,B as in size=64,1514)", s)
	case !slices.Contains(Keys(), key):
		return Axis{}, fmt.Errorf("%q cannot be varied (want one of %s)", key, strings.Join(Keys(), ", "))
	}
	a := Axis{Key: key}
	for _, v := range strings.Split(list, ",") {
		switch {
		case v == "":
			return a, fmt.Errorf("%q has an empty value", s)
		case slices.Contains(a.Values, v):
			return a, fmt.Errorf("%q has %s twice", s, v)
		}
		a.Values = append(a.Values, v)
	}
	return a, nil
}

// maxVariants bounds what one run measures in turn.
const maxVariants = 64

// Product returns each combination of the axes' values, the last axis changing
// fastest; of no axes, one empty combination.
func Product(axes []Axis) ([]map[string]string, error) {
	all := []map[string]string{{}}
	seen := make(map[string]bool)
	for _, a := range axes {
		if seen[a.Key] {
			return nil, fmt.Errorf("%s is varied twice (write all its values behind one, as in %[1]s=A,B)", a.Key)
		}
		seen[a.Key] = true
		var next []map[string]string
		for _, m := range all {
			for _, v := range a.Values {
				n := maps.Clone(m)
				n[a.Key] = v
				next = append(next, n)
			}
		}
		if all = next; len(all) > maxVariants {
			return nil, fmt.Errorf("more than %d variants (vary fewer settings in one run)", maxVariants)
		}
	}
	return all, nil
}

// NameOf returns a combination as key=value in the order of the axes.
func NameOf(axes []Axis, values map[string]string) string {
	var all []string
	for _, a := range axes {
		all = append(all, a.Key+"="+values[a.Key])
	}
	return strings.Join(all, " ")
}

// Set makes the setting key of s what value says. Whether it goes with the others is
// for [load.Spec.Check].
func Set(s *load.Spec, key, value string) (err error) {
	switch key {
	case "mode":
		if !slices.Contains(load.Modes, load.Mode(value)) {
			return fmt.Errorf("mode %q does not exist (want one of %s)", value, strings.Trim(fmt.Sprint(load.Modes), "[]"))
		}
		s.Mode = load.Mode(value)
	case "size":
		s.IMIX, s.Size = value == "imix", 0
		if !s.IMIX {
			s.Size, err = positive(value, "size", "a number of bytes, or imix")
		}
	case "flows":
		s.Flows, err = positive(value, "number of flows", "1 or more")
	case "threads":
		s.Threads, err = positive(value, "number of threads", "1 or more")
	case "rate":
		s.Rate, s.Bits, err = ParseRate(value)
	case "gso":
		s.GSO, err = yes(value)
	case "over-udp":
		s.OverUDP, err = yes(value)
	case "reset":
		s.Reset, err = yes(value)
	case "cpus":
		s.CPUs, err = ParseCPUs(value)
	default:
		err = fmt.Errorf("%q is no setting of a load", key)
	}
	return err
}

func positive(value, what, want string) (int, error) {
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%q is no %s (want %s)", value, what, want)
	}
	return n, nil
}

func yes(value string) (bool, error) {
	if value != "on" && value != "off" {
		return false, fmt.Errorf("%q is neither on nor off", value)
	}
	return value == "on", nil
}

// ParseRate reads a rate: packets or transactions a second, as 5000, 100k, 1.5M or
// with pps behind, or bits a second as 100mbit, 1gbit. 0 or max is as fast as it goes.
func ParseRate(s string) (rate, bits float64, err error) {
	if s == "max" || s == "0" {
		return 0, 0, nil
	}
	text := strings.ToLower(s)
	number, isBits := strings.CutSuffix(text, "bit")
	if !isBits {
		number = strings.TrimSuffix(text, "pps")
	}
	factor := 1.0
	for suffix, f := range map[string]float64{"k": 1e3, "m": 1e6, "g": 1e9} {
		if rest, ok := strings.CutSuffix(number, suffix); ok {
			number, factor = rest, f
			break
		}
	}
	v, err := strconv.ParseFloat(number, 64)
	if err != nil || !(v > 0 && v*factor <= 1e12) || strings.ContainsAny(number, "xpein") {
		return 0, 0, fmt.Errorf("%q is no rate (want packets or transactions as 5000, 100k or 1.5M, bits as 100mbit, or max)", s)
	}
	if isBits {
		return 0, v * factor, nil
	}
	return v * factor, 0, nil
}

// ParseCPUs reads a list of CPUs as 0,2-3; + stands for a comma too.
func ParseCPUs(s string) ([]int, error) {
	const most = 4096
	bad := fmt.Errorf("%q is no list of CPUs (want such as 0,2-3)", s)
	var all []int
	for _, part := range strings.FieldsFunc(s+",", func(r rune) bool { return r == ',' || r == '+' }) {
		low, high, ok := strings.Cut(part, "-")
		if !ok {
			high = low
		}
		a, err1 := strconv.ParseUint(low, 10, 16)
		b, err2 := strconv.ParseUint(high, 10, 16)
		if err1 != nil || err2 != nil || a > b || b >= most {
			return nil, bad
		}
		for cpu := a; cpu <= b; cpu++ {
			all = append(all, int(cpu))
		}
	}
	if len(all) == 0 || len(all) > most {
		return nil, bad
	}
	return all, nil
}

// SettingsOf returns what distinguishes a load from others, by key.
func SettingsOf(s load.Spec) map[string]string {
	m := map[string]string{
		"mode": string(s.Mode), "flows": strconv.Itoa(s.Flows), "threads": strconv.Itoa(s.Threads),
		"size": strconv.Itoa(s.Size), "rate": "max", "family": "ipv4",
	}
	switch {
	case s.Rate > 0:
		m["rate"] = strconv.FormatFloat(s.Rate, 'f', -1, 64)
	case s.Bits > 0:
		m["rate"] = strconv.FormatFloat(s.Bits, 'f', -1, 64) + "bit"
	}
	if s.IMIX {
		m["size"] = "imix"
	}
	if s.To.Addr.Is6() {
		m["family"] = "ipv6"
	}
	for key, on := range map[string]bool{"gso": s.GSO, "over-udp": s.OverUDP, "reset": s.Reset} {
		if on {
			m[key] = "on"
		}
	}
	return m
}
