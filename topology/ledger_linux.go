package topology

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nsbpf/nsbpf/internal/netns"
)

var ledgerFile = filepath.Join(runDir, "host.json")

// ledger remembers what labs share and the last of them puts back. It is
// written before each change. Whoever uses it holds the lock.
type ledger struct {
	// NetnsDir is how the directory of namespaces was before the first lab.
	NetnsDir *netns.DirState `json:"netns_dir,omitempty"`
	// Hosts has the kernel parameters of each namespace that is a host, by
	// netns.ID and path.
	Hosts map[uint64]map[string]*setting `json:"hosts,omitempty"`
}

// setting is a kernel parameter that labs need.
type setting struct {
	Value string   `json:"value"`
	Labs  []string `json:"labs"`
	// Before has the values to put back, by path: the parameter's own and those
	// of its siblings. None if the parameter had the value already.
	Before map[string]string `json:"before,omitempty"`
}

func readLedger() (*ledger, error) {
	l := &ledger{}
	b, err := os.ReadFile(ledgerFile)
	if err == nil {
		err = json.Unmarshal(b, l)
	} else if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", ledgerFile, err)
	}
	if l.Hosts == nil {
		l.Hosts = map[uint64]map[string]*setting{}
	}
	return l, nil
}

func (l *ledger) save() error { return writeFile(ledgerFile, l) }

// set gives a parameter of the calling namespace, host, the value that lab needs.
func (l *ledger) set(host uint64, lab string, s SetSysctl) error {
	path, value := s.Path(), fields(s.Value)
	now, err := readSysctl(path)
	if err != nil {
		return err
	}
	on := l.Hosts[host]
	if on == nil {
		on = map[string]*setting{}
		l.Hosts[host] = on
	}
	e := on[path]
	switch {
	case e == nil:
		e = &setting{Value: value}
		on[path] = e
	case e.Value != value:
		return fmt.Errorf("lab %q needs %q", strings.Join(e.Labs, ", "), e.Value)
	}
	if now != value && e.Before == nil {
		if e.Before, err = readSysctls(siblings(path)); err != nil {
			return err
		}
	}
	if !slices.Contains(e.Labs, lab) {
		e.Labs = append(e.Labs, lab)
	}
	if err := l.save(); err != nil || now == value {
		return err
	}
	return writeSysctl(path, value)
}

// release puts back what no lab but this one needs, unless somebody else has
// changed it since. The calling namespace is host; a host that is gone is
// released without being touched.
func (l *ledger) release(host uint64, lab string, gone bool) error {
	var errs []error
	on := l.Hosts[host]
	for _, path := range slices.Backward(slices.Sorted(maps.Keys(on))) {
		e := on[path]
		e.Labs = slices.DeleteFunc(e.Labs, func(name string) bool { return name == lab })
		if len(e.Labs) > 0 {
			continue
		}
		if !gone {
			errs = append(errs, e.restore(path))
		}
		delete(on, path)
	}
	if len(on) == 0 {
		delete(l.Hosts, host)
	}
	return errors.Join(append(errs, l.save())...)
}

func (e *setting) restore(path string) error {
	now, err := readSysctl(path)
	if e.Before == nil || now != e.Value || errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	// The parameter itself first: it changes its siblings once more.
	errs := []error{writeSysctl(path, e.Before[path])}
	for _, p := range slices.Sorted(maps.Keys(e.Before)) {
		now, err := readSysctl(p)
		if errors.Is(err, fs.ErrNotExist) {
			continue // its device is gone
		}
		if err == nil && now != e.Before[p] {
			err = writeSysctl(p, e.Before[p])
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// siblings returns patterns for the parameter and all that the kernel changes
// with it: inet_forward_change in net/ipv4/devinet.c, addrconf_fixup_forwarding
// in net/ipv6/addrconf.c.
func siblings(path string) []string {
	const v4, v6 = "/proc/sys/net/ipv4/", "/proc/sys/net/ipv6/"
	switch path {
	case v4 + "ip_forward", v4 + "conf/all/forwarding":
		return []string{v4 + "ip_forward", v4 + "conf/*/forwarding", v4 + "conf/*/accept_redirects"}
	case v6 + "conf/all/forwarding":
		return []string{v6 + "conf/*/forwarding"}
	}
	return []string{path}
}

func readSysctls(patterns []string) (map[string]string, error) {
	values := map[string]string{}
	for _, pattern := range patterns {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err
		}
		for _, p := range paths {
			if values[p], err = readSysctl(p); err != nil {
				return nil, err
			}
		}
	}
	return values, nil
}

func readSysctl(path string) (string, error) {
	b, err := os.ReadFile(path)
	return fields(string(b)), err
}

// fields returns a parameter's value with single blanks; the kernel separates
// the numbers of some with tabs.
func fields(value string) string { return strings.Join(strings.Fields(value), " ") }

func writeSysctl(path, value string) error {
	// Not os.WriteFile: a parameter is never made, and not truncated.
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}
