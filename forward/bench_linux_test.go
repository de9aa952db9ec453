package forward

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nsbpf/nsbpf/internal/testenv"
)

func BenchmarkRead(b *testing.B) {
	for _, bm := range []struct{ lab, node string }{{"pair", "left"}, {"nat-wan", "host"}, {"1000 routes", "left"}} {
		b.Run(bm.lab, func(b *testing.B) {
			name := bm.lab
			if bm.lab == "1000 routes" {
				name = "pair"
			}
			lab := up(b, name)
			if name != bm.lab {
				var s strings.Builder
				for i := range 1000 {
					fmt.Fprintf(&s, "route add 20.%d.%d.0/24 via 172.16.16.20\n", i/256, i%256)
				}
				testenv.Run(b, "sh", "-c", "printf '%s' \"$1\" | ip -n left -batch -", "sh", s.String())
			}
			for b.Loop() {
				if _, err := Read(lab, bm.node); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCounters(b *testing.B) {
	lab := up(b, "nat-wan")
	for b.Loop() {
		if _, err := Counters(lab, "host"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadNet(b *testing.B) {
	lab := up(b, "nat-wan")
	for b.Loop() {
		if _, err := ReadNet(lab); err != nil {
			b.Fatal(err)
		}
	}
}
