package loader

import (
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"
)

// Feature is something nsbpf uses, and whether this kernel and this user have it.
type Feature struct {
	Name    string `json:"name"`
	OK      bool   `json:"ok"`
	Found   string `json:"found"`             // what was seen
	Without string `json:"without,omitempty"` // what is lost where it is missing
	Mend    string `json:"mend,omitempty"`    // how to get it
	// Required says that nothing works without it.
	Required bool `json:"required,omitempty"`
}

// Probe looks at the kernel and the process. It changes nothing.
func Probe() []Feature {
	fs := []Feature{probeKernel(), probeCapabilities(), probeBTF()}
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		spec = nil
	}
	fs = append(fs,
		probeProgram("tc programs", ebpf.SchedCLS, "nothing can be counted or traced", true),
		probeProgram("XDP programs", ebpf.XDP, "no --hook xdp", false),
		probeMap("ring buffer", ebpf.RingBuf, "no tracing"),
		probeEnum(spec, "tcx", "bpf_attach_type", "BPF_TCX_INGRESS",
			"programs are attached by clsact, which costs a little more", "Linux 6.6"),
		probeEnum(spec, "netfilter programs", "bpf_attach_type", "BPF_NETFILTER",
			"the stack between two hops stays dark", "Linux 6.4"),
		probeEnum(spec, "drop reasons", "skb_drop_reason", "SKB_DROP_REASON_NETFILTER_DROP",
			"why the kernel dropped a packet is told by its functions alone", "Linux 5.18"),
		probeSymbols(),
		probeNft(),
		probeJIT(),
		probeBridgeNetfilter(),
	)
	return fs
}

// Release returns the kernel's release, such as 6.12.9-amd64, or "unknown".
func Release() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}

// The floor of what we are tested on.
const floorMajor, floorMinor = 6, 1

func probeKernel() Feature {
	f := Feature{Name: "kernel", Found: "Linux " + Release(), Without: "not tested below Linux 6.1", Mend: "a kernel of 6.1 or later"}
	var major, minor int
	fmt.Sscanf(Release(), "%d.%d", &major, &minor)
	f.OK = major > floorMajor || major == floorMajor && minor >= floorMinor
	return f
}

var capabilities = []struct {
	bit  int
	name string
}{
	{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"},
	{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN"},
	{unix.CAP_BPF, "CAP_BPF"},
	{unix.CAP_PERFMON, "CAP_PERFMON"},
}

func probeCapabilities() Feature {
	f := Feature{Name: "capabilities", Required: true, Without: "no network can be built", Mend: "run it as root: sudo nsbpf …"}
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		f.Found = err.Error()
		return f
	}
	var missing []string
	for _, c := range capabilities {
		if data[c.bit/32].Effective&(1<<(c.bit%32)) == 0 {
			missing = append(missing, c.name)
		}
	}
	f.OK, f.Found = len(missing) == 0, "all four that are needed"
	if !f.OK {
		f.Found = "missing " + strings.Join(missing, ", ")
	}
	return f
}

func probeBTF() Feature {
	const file = "/sys/kernel/btf/vmlinux"
	f := Feature{Name: "BTF", Found: file, Without: "no tracing", Mend: "a kernel built with CONFIG_DEBUG_INFO_BTF=y"}
	_, err := os.Stat(file)
	if f.OK = err == nil; !f.OK {
		f.Found = "no " + file
	}
	return f
}

func probeProgram(name string, t ebpf.ProgramType, without string, required bool) Feature {
	f := Feature{Name: name, Without: without, Required: required, Mend: "root, and a kernel built with CONFIG_BPF_SYSCALL=y"}
	return f.judge(features.HaveProgramType(t))
}

func probeMap(name string, t ebpf.MapType, without string) Feature {
	f := Feature{Name: name, Without: without, Mend: "root, and Linux 5.8"}
	return f.judge(features.HaveMapType(t))
}

func (f Feature) judge(err error) Feature {
	f.OK, f.Found = err == nil, "yes"
	if err != nil {
		f.Found = err.Error()
	}
	return f
}

func probeEnum(spec *btf.Spec, name, enum, value, without, since string) Feature {
	f := Feature{Name: name, Found: "no", Without: without, Mend: since}
	if spec == nil {
		f.Found = "unknown without BTF"
		return f
	}
	var e *btf.Enum
	if err := spec.TypeByName(enum, &e); err != nil {
		return f
	}
	for _, v := range e.Values {
		if v.Name == value {
			f.OK, f.Found = true, "yes"
		}
	}
	return f
}

func probeSymbols() Feature {
	f := Feature{Name: "kernel symbols", Without: "it is not told which function of the kernel dropped a packet", Mend: "sysctl -w kernel.kptr_restrict=1"}
	b, err := os.ReadFile("/proc/sys/kernel/kptr_restrict")
	switch {
	case err != nil:
		f.Found = err.Error()
	case strings.TrimSpace(string(b)) == "2":
		f.Found = "hidden from everybody (kernel.kptr_restrict=2)"
	default:
		f.OK, f.Found = true, "to be read"
	}
	return f
}

func probeNft() Feature {
	f := Feature{Name: "nft", Without: "--explain names a rule by its handle alone", Mend: "install nftables"}
	path, err := exec.LookPath("nft")
	if f.OK, f.Found = err == nil, path; err != nil {
		f.Found = "no"
	}
	return f
}

func probeJIT() Feature {
	f := Feature{Name: "BPF JIT", Without: "programs are interpreted, several times slower", Mend: "sysctl -w net.core.bpf_jit_enable=1"}
	b, err := os.ReadFile("/proc/sys/net/core/bpf_jit_enable")
	switch {
	case err != nil:
		// Other namespaces than the first do not show it; most kernels have it always on.
		f.OK, f.Found = true, "unknown here"
	case strings.TrimSpace(string(b)) == "0":
		f.Found = "off"
	default:
		f.OK, f.Found = true, "on"
	}
	return f
}

// probeBridgeNetfilter never fails: it tells what to expect of bridged packets.
func probeBridgeNetfilter() Feature {
	f := Feature{Name: "br_netfilter", OK: true, Found: "not loaded: bridged packets do not pass iptables and nftables' ip hooks"}
	b, err := os.ReadFile("/proc/sys/net/bridge/bridge-nf-call-iptables")
	if err != nil {
		return f
	}
	f.Found = "off: bridged packets do not pass iptables and nftables' ip hooks"
	if strings.TrimSpace(string(b)) == "1" {
		f.Found = "on: bridged packets pass iptables and nftables' ip hooks too"
	}
	return f
}
