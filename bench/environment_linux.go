package bench

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/nsbpf/nsbpf/bench/load"
	"github.com/nsbpf/nsbpf/bench/result"
	"github.com/nsbpf/nsbpf/internal/netns"
	"github.com/nsbpf/nsbpf/internal/rtnl"
	"github.com/nsbpf/nsbpf/loader"
)

// Observer records what a result depends on besides what is measured.
type Observer struct {
	places        []load.Place
	steal, before uint64 // of /proc/stat
	env           result.Environment
}

// Observe reads the machine, and the devices of the path.
func Observe(version string, places []load.Place) (*Observer, error) {
	o := &Observer{places: places}
	o.steal, o.before = stolen()
	e := &o.env
	e.Kernel, e.Go, e.Nsbpf = loader.Release(), runtime.Version(), version
	e.CPU, e.Virtual = processor(line("/proc/cpuinfo"))
	e.CPUs = runtime.NumCPU()
	e.Governor = line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
	e.Congestion = line("/proc/sys/net/ipv4/tcp_congestion_control")
	e.Mitigations = mitigations()
	for _, p := range places {
		d, err := readDevice(p)
		if err != nil {
			return nil, err
		}
		e.Devices = append(e.Devices, d)
		if err := netns.Do(p.Netns, func() error {
			e.BrNetfilter = e.BrNetfilter || bridged(p)
			return nil
		}); err != nil {
			return nil, err
		}
	}
	if n, err := strconv.ParseFloat(strings.SplitN(line("/proc/loadavg")+" ", " ", 2)[0], 64); err == nil {
		e.Load = n
	}
	return o, nil
}

// Environment returns what was recorded, with what was stolen since and what the
// threads of a load were pinned to. A nil outcome says nothing of that.
func (o *Observer) Environment(of *load.Outcome) result.Environment {
	e := o.env
	steal, all := stolen()
	if all > o.before && steal > o.steal {
		e.Steal = float64(steal-o.steal) / float64(all-o.before)
	}
	if of != nil {
		e.Congestion = cmp.Or(of.Congestion, e.Congestion)
		e.Affinity = map[string]string{"sender": list(of.Senders)}
		if len(of.Receivers) > 0 {
			e.Affinity["receiver"] = list(of.Receivers)
		}
	}
	return e
}

func list(cpus []int) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(cpus), " ", ","), "[]")
}

// line returns a small file without the white space around it, "" if there is none.
func line(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// stolen returns the time that a hypervisor gave to others, and all time, in ticks.
func stolen() (steal, all uint64) {
	const at = 8 // of proc(5)
	first, _, _ := strings.Cut(line("/proc/stat"), "\n")
	for i, f := range strings.Fields(first) {
		n, err := strconv.ParseUint(f, 10, 64)
		if err != nil || i > at { // guests' time is in the others
			continue
		}
		all += n
		if i == at {
			steal = n
		}
	}
	return steal, all
}

// processor returns the model that /proc/cpuinfo names, and the hypervisor if it
// says that there is one.
func processor(cpuinfo string) (model, hypervisor string) {
	model = runtime.GOARCH
	for l := range strings.Lines(cpuinfo) {
		key, value, _ := strings.Cut(l, ":")
		switch strings.TrimSpace(key) {
		case "model name":
			model = strings.TrimSpace(value)
		case "flags":
			if slices.Contains(strings.Fields(value), "hypervisor") {
				hypervisor = cmp.Or(line("/sys/hypervisor/type"), line("/sys/class/dmi/id/sys_vendor"), "hypervisor")
			}
			return model, hypervisor
		}
	}
	return model, hypervisor
}

func mitigations() map[string]string {
	all := make(map[string]string)
	files, _ := filepath.Glob("/sys/devices/system/cpu/vulnerabilities/*")
	for _, f := range files {
		all[filepath.Base(f)] = line(f)
	}
	return all
}

// bridged says whether the path goes over a bridge here whose packets netfilter sees.
func bridged(p load.Place) bool {
	const nf = "/proc/sys/net/bridge/bridge-nf-call-iptables"
	l, err := netlink.LinkByName(p.Device)
	return err == nil && (l.Attrs().MasterIndex > 0 || l.Type() == "bridge") && line(nf) == "1"
}

func readDevice(p load.Place) (result.Device, error) {
	d := result.Device{Name: p.String()}
	err := netns.Do(p.Netns, func() error {
		l, err := netlink.LinkByName(p.Device)
		if err != nil {
			return err
		}
		a := l.Attrs()
		d.Driver, d.MTU, d.TxQueues, d.RxQueues = l.Type(), a.MTU, a.NumTxQueues, a.NumRxQueues
		if d.Qdisc, err = qdisc(a.Index); err != nil {
			return err
		}
		if a.Xdp != nil && a.Xdp.Attached {
			d.Programs = append(d.Programs, "xdp")
		}
		d.Offloads, err = offloads(p.Device)
		return err
	})
	if err != nil {
		return d, fmt.Errorf("look at %s: %w", p, err)
	}
	return d, nil
}

// qdisc returns the kinds of those that a device of this thread's namespace sends by.
func qdisc(index int) (string, error) {
	c, err := rtnl.Dial(nil)
	if err != nil {
		return "", err
	}
	defer c.Close()
	all, err := c.Qdiscs()
	if err != nil {
		return "", err
	}
	var kinds []string
	for _, q := range all {
		if q.Index == index && q.Kind != "clsact" && q.Kind != "ingress" && !slices.Contains(kinds, q.Kind) {
			kinds = append(kinds, q.Kind)
		}
	}
	slices.Sort(kinds)
	return cmp.Or(strings.Join(kinds, " "), "noqueue"), nil
}

// features are those offloads that the kernel tells one by one (linux/ethtool.h), by
// ethtool's names.
var features = []struct {
	name string
	cmd  uint32
}{
	{"rx-checksumming", unix.ETHTOOL_GRXCSUM},
	{"tx-checksumming", unix.ETHTOOL_GTXCSUM},
	{"scatter-gather", unix.ETHTOOL_GSG},
	{"tcp-segmentation-offload", unix.ETHTOOL_GTSO},
	{"generic-segmentation-offload", unix.ETHTOOL_GGSO},
	{"generic-receive-offload", unix.ETHTOOL_GGRO},
}

// offloads returns those that are on at a device of this thread's namespace.
func offloads(device string) ([]string, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	on := []string{}
	for _, f := range features {
		value := struct{ cmd, on uint32 }{cmd: f.cmd}
		req := struct { // struct ifreq
			name [unix.IFNAMSIZ]byte
			ptr  unsafe.Pointer
			_    [16]byte
		}{ptr: unsafe.Pointer(&value)}
		copy(req.name[:unix.IFNAMSIZ-1], device)
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req)))
		switch {
		case errors.Is(errno, unix.EOPNOTSUPP):
		case errno != 0:
			return nil, fmt.Errorf("ask for %s: %w", f.name, errno)
		case value.on != 0:
			on = append(on, f.name)
		}
	}
	return on, nil
}

// SetMTU sets that of a place's device and returns what it was.
func SetMTU(p load.Place, mtu int) (was int, err error) {
	err = netns.Do(p.Netns, func() error {
		l, err := netlink.LinkByName(p.Device)
		if err != nil {
			return err
		}
		if was = l.Attrs().MTU; was == mtu {
			return nil
		}
		return netlink.LinkSetMTU(l, mtu)
	})
	if err != nil {
		return was, fmt.Errorf("set the MTU of %s to %d: %w", p, mtu, err)
	}
	return was, nil
}
