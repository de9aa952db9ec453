package result

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Environment is what a result depends on besides what is measured.
type Environment struct {
	Kernel      string            `json:"kernel"`
	CPU         string            `json:"cpu"` // model
	CPUs        int               `json:"cpus"`
	Governor    string            `json:"governor,omitempty"`    // "" where frequency is not the kernel's to choose
	Virtual     string            `json:"virtual,omitempty"`     // hypervisor or container, "" for none
	Mitigations map[string]string `json:"mitigations,omitempty"` // by vulnerability
	Congestion  string            `json:"congestion_control"`    // of TCP
	BrNetfilter bool              `json:"br_netfilter"`          // bridged packets go through netfilter
	// Affinity is the CPUs that the load's threads were pinned to, by role such as
	// sender, receiver.
	Affinity map[string]string `json:"affinity,omitempty"`
	Devices  []Device          `json:"devices,omitempty"` // along the path
	// Steal is the share of the CPUs' time that the hypervisor gave to others while
	// this was measured, 0…1.
	Steal float64 `json:"steal"`
	// Load is how many other runnable tasks there were, on average.
	Load  float64 `json:"load,omitempty"`
	Nsbpf string  `json:"nsbpf"` // version
	Go    string  `json:"go"`    // version
}

// Device is how a device along the path was set up.
type Device struct {
	Name     string   `json:"name"` // as node:device
	Driver   string   `json:"driver,omitempty"`
	MTU      int      `json:"mtu"`
	TxQueues int      `json:"tx_queues,omitempty"`
	RxQueues int      `json:"rx_queues,omitempty"`
	Qdisc    string   `json:"qdisc"`
	Offloads []string `json:"offloads"` // that are on, as ethtool names them
	Programs []string `json:"programs,omitempty"`
}

// Difference is one setting of two environments that is not the same.
type Difference struct {
	Setting string `json:"setting"` // such as kernel, mitigations.retbleed, left:eth0.qdisc
	Old     string `json:"old"`     // "" if it was not there
	New     string `json:"new"`
	// Forbids says that speeds under the two cannot be compared. What is compared
	// itself (the version of nsbpf) and what changes by the minute does not.
	Forbids bool `json:"forbids"`
}

// Compare returns what differs between two environments: first what forbids a
// verdict, then what does not. Steal and load are no settings and are left out.
func (e *Environment) Compare(o *Environment) []Difference {
	var all []Difference
	add := func(setting, was, is string, forbids bool) {
		if was != is {
			all = append(all, Difference{setting, was, is, forbids})
		}
	}
	add("kernel", e.Kernel, o.Kernel, true)
	add("cpu", e.CPU, o.CPU, true)
	add("cpus", strconv.Itoa(e.CPUs), strconv.Itoa(o.CPUs), true)
	add("governor", e.Governor, o.Governor, true)
	add("virtual", e.Virtual, o.Virtual, true)
	add("congestion_control", e.Congestion, o.Congestion, true)
	add("br_netfilter", strconv.FormatBool(e.BrNetfilter), strconv.FormatBool(o.BrNetfilter), true)
	for _, k := range keys(e.Mitigations, o.Mitigations) {
		add("mitigations."+k, e.Mitigations[k], o.Mitigations[k], true)
	}
	for _, k := range keys(e.Affinity, o.Affinity) {
		add("affinity."+k, e.Affinity[k], o.Affinity[k], true)
	}
	was, is := devices(e.Devices), devices(o.Devices)
	for _, k := range keys(was, is) {
		add(k, was[k], is[k], true)
	}
	add("nsbpf", e.Nsbpf, o.Nsbpf, false)
	add("go", e.Go, o.Go, false)
	return all
}

// devices returns the settings of devices by name.
func devices(all []Device) map[string]string {
	m := make(map[string]string)
	for _, d := range all {
		m[d.Name+".driver"] = d.Driver
		m[d.Name+".mtu"] = strconv.Itoa(d.MTU)
		m[d.Name+".queues"] = strconv.Itoa(d.TxQueues) + " tx " + strconv.Itoa(d.RxQueues) + " rx"
		m[d.Name+".qdisc"] = d.Qdisc
		m[d.Name+".offloads"] = strings.Join(slices.Sorted(slices.Values(d.Offloads)), " ")
		m[d.Name+".programs"] = strings.Join(d.Programs, " ")
	}
	return m
}

func keys(a, b map[string]string) []string {
	both := maps.Clone(a)
	if both == nil {
		both = make(map[string]string)
	}
	maps.Copy(both, b)
	return slices.Sorted(maps.Keys(both))
}
