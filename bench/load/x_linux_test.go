package load
import ("testing";"time";"os/exec";"os")
func TestX(t *testing.T) {
	l := newLab(t)
	_ = os.Getenv
	for range 4 {
	for _, cpus := range [][]int{{0,0},{0,1}} {
	xcpu = 0
	j := iperf3(t, l, cpus[0], cpus[1])/1e9
	o := run(t, Spec{Mode: TCP, From: l.left, To: l.right, Duration: 1000 * time.Millisecond, CPUs: cpus})
	t.Logf("%v iperf %.1f Gbit %.0f ns/kB; ours %.1f %.0f ns/kB %v", cpus, j, xcpu*1e9/(j*1e9/8/1e3), o.BitRate()/1e9, o.NSPerKilobyte(), o.Elapsed)
	}}
	_ = exec.Command
}
