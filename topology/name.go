package topology

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
)

const (
	maxDevice = 15 // IFNAMSIZ without the terminating zero
	maxNode   = 64 // a file name, with room for a lab's name before it
	maxLab    = 32
)

// isNameRune says whether r may stand in the name of a node or device. None of
// these needs quoting in a shell or in nft.
func isNameRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.", r)
}

// checkName returns what is wrong with the name of a node or device and how to
// mend it, or nothing.
func checkName(name string, longest int) (msg, hint string) {
	wrong := strings.IndexFunc(name, func(r rune) bool { return !isNameRune(r) })
	switch {
	case name == "":
		return "is empty", ""
	case wrong >= 0:
		return fmt.Sprintf("has a %q", []rune(name[wrong:])[0]), "use letters, digits, '-', '_' and '.'"
	case !isNameRune(rune(name[0])) || strings.IndexByte("-_.", name[0]) >= 0:
		return fmt.Sprintf("begins with %q", name[0]), "begin with a letter or digit"
	case len(name) > longest:
		return fmt.Sprintf("has %d bytes", len(name)), fmt.Sprintf("at most %d", longest)
	}
	return "", ""
}

// checkDevice is [checkName] for devices, whose names must also not be those
// that the kernel uses itself.
func checkDevice(name string) (msg, hint string) {
	if slices.Contains([]string{"lo", "all", "default"}, name) {
		return "is the kernel's own", "choose another"
	}
	return checkName(name, maxDevice)
}

// checkLab returns what is wrong with the name of a lab, which is also part of
// a path and of an nft table's name.
func checkLab(name string) (msg, hint string) {
	ok := func(r rune) bool { return r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' }
	switch {
	case name == "":
		return "is empty", ""
	case strings.IndexFunc(name, func(r rune) bool { return !ok(r) }) >= 0, name[0] == '-':
		return "is not of the form [a-z0-9][a-z0-9-]*", "such as " + strconv.Quote(labLike(name))
	case len(name) > maxLab:
		return fmt.Sprintf("has %d bytes", len(name)), fmt.Sprintf("at most %d", maxLab)
	}
	return "", ""
}

// labLike returns a valid name of a lab that resembles name.
func labLike(name string) string {
	s := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(name))
	s = strings.Trim(s, "-")
	if s == "" {
		return "lab"
	}
	return s[:min(len(s), maxLab)]
}

// shorten returns a device name for full: full itself, or its beginning and a
// hash, with full as the altname.
func shorten(full string) (name, alt string) {
	if len(full) <= maxDevice {
		return full, ""
	}
	sum := fmt.Sprintf("-%06x", hash(full)&0xffffff)
	return strings.TrimRight(full[:maxDevice-len(sum)], "-_.") + sum, full
}

// hash is FNV-1a.
func hash(s string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(s))
	return h.Sum32()
}

// nameDevices names the ends that have no device yet, by the rules of [Parse].
func nameDevices(t *Topology) {
	taken := map[string]bool{} // "node:device"
	for _, b := range t.Bridges {
		taken[b.Node+":"+b.Name] = true
	}
	for _, l := range t.Links {
		taken[l.A.Node+":"+l.A.Device] = true
		taken[l.B.Node+":"+l.B.Device] = true
	}
	for i := range t.Links {
		l := &t.Links[i]
		nameDevice(&l.A, l.B, taken)
		nameDevice(&l.B, l.A, taken)
	}
}

func nameDevice(e *End, peer End, taken map[string]bool) {
	if e.Device != "" || e.Node == "" || peer.Node == "" {
		return
	}
	for i := 0; e.Device == "" || taken[e.Node+":"+e.Device]; i++ {
		if e.Bridge == "" && e.Node != HostNode {
			e.Device = fmt.Sprintf("eth%d", i)
			continue
		}
		full := cmp.Or(peer.Bridge, peer.Node) + "-" + cmp.Or(e.Bridge, e.Node) + "-veth"
		if i > 0 {
			full += strconv.Itoa(i + 1)
		}
		e.Device, e.AltName = shorten(full)
	}
	taken[e.Node+":"+e.Device] = true
}
