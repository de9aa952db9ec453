package why

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
)

// TestReasonsOfThisKernel checks that the table knows every reason that the
// running kernel can give.
func TestReasonsOfThisKernel(t *testing.T) {
	spec, err := btf.LoadKernelSpec()
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("the kernel has no BTF")
	}
	if err != nil {
		t.Fatal(err)
	}
	var enum *btf.Enum
	if err := spec.TypeByName("skb_drop_reason", &enum); err != nil {
		t.Fatal(err)
	}
	var reasons []string
	for _, v := range enum.Values {
		name, ok := strings.CutPrefix(v.Name, "SKB_DROP_REASON_")
		if ok && name != "MAX" && name != "SUBSYS_MASK" {
			reasons = append(reasons, name)
		}
	}
	checkReasons(t, reasons)
}
