package hop

import (
	"fmt"
	"slices"
	"strings"
)

// Find returns the hop of that layer that s names: "node:device in",
// "node:device out", the same with a colon for the blank, or "node:device",
// which is ingress.
func Find(hops []Hop, s string, layer Layer) (Hop, error) {
	place, dir, err := splitDirection(s)
	if err != nil {
		return Hop{}, err
	}
	var places []string
	for _, h := range hops {
		if h.Place() == place && h.Direction == dir && h.Layer == layer {
			return h, nil
		}
		if !slices.Contains(places, h.Place()) {
			places = append(places, h.Place())
		}
	}
	if slices.Contains(places, place) {
		return Hop{}, fmt.Errorf("hop %q: there is no %s %s at %s (XDP sees veth ends, and what comes in there)", s, layer, dir, place)
	}
	return Hop{}, fmt.Errorf("hop %q does not exist (there are %s)", s, strings.Join(places, ", "))
}

func splitDirection(s string) (place string, d Direction, err error) {
	i := strings.IndexByte(s, ':')
	if i < 0 {
		return "", Ingress, fmt.Errorf("hop %q has no device (want node:device, and in or out)", s)
	}
	j := strings.IndexAny(s[i+1:], ": ")
	if j < 0 {
		return s, Ingress, nil
	}
	j += i + 1
	if err := d.UnmarshalText([]byte(s[j+1:])); err != nil {
		return "", Ingress, fmt.Errorf("hop %q: %w", s, err)
	}
	return s[:j], d, nil
}
