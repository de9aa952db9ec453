package netns

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nsbpf/nsbpf/internal/rtnl"
	"github.com/nsbpf/nsbpf/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// create makes a namespace for the time of the test.
func create(t *testing.T, name, mark string) *os.File {
	t.Helper()
	testenv.Root(t)
	if err := Prepare(); err != nil {
		t.Fatal(err)
	}
	ns, err := Create(name, mark, func() error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(ns.Close(), Remove(name)); err != nil {
			t.Error(err)
		}
	})
	return ns
}

func id(t *testing.T, ns *os.File, err error) uint64 {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	n, err := ID(ns)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestCreate(t *testing.T) {
	ns := create(t, "a", "nsbpf:lab")
	if lo := testenv.Run(t, "ip", "-n", "a", "link", "show", "lo"); !strings.Contains(lo, "alias nsbpf:lab\n") {
		t.Errorf("no mark on %s", lo)
	}
	if _, err := Create("a", "", func() error { return nil }); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second create: %v", err)
	}
	opened, err := Open("a")
	if id(t, opened, err) != id(t, ns, nil) {
		t.Error("open returns another namespace")
	}
	opened.Close()
}

// TestCreateFails leaves nothing if inside fails, and does not lose the thread.
func TestCreateFails(t *testing.T) {
	testenv.Root(t)
	if err := Prepare(); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	if _, err := Create("b", "", func() error { return broken }); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	if Exists("b") {
		t.Error("the name is there")
	}
}

func TestOpenErrors(t *testing.T) {
	create(t, "a", "")
	if _, err := Open("missing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if err := os.WriteFile(path("file"), nil, 0o444); err != nil {
		t.Fatal(err)
	}
	if _, err := Open("file"); !errors.Is(err, ErrNotMounted) {
		t.Errorf("file: %v", err)
	}
	for range 2 { // the second finds nothing
		if err := Remove("file"); err != nil {
			t.Errorf("remove: %v", err)
		}
	}
}

// TestDo enters from many goroutines at once and looks where each is, while the
// process as others see it stays at home.
func TestDo(t *testing.T) {
	ns := create(t, "a", "")
	want := id(t, ns, nil)
	self, err := OpenSelf()
	home := id(t, self, err)
	self.Close()
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			err := Do(ns, func() error {
				in, err := OpenSelf()
				if id(t, in, err) != want {
					t.Error("not inside")
				}
				if unix.Gettid() == unix.Getpid() {
					t.Error("on the main thread")
				}
				return in.Close()
			})
			out, err2 := OpenSelf()
			if err != nil || id(t, out, err2) != home {
				t.Error("not back")
			}
			out.Close()
		})
	}
	wg.Wait()
	main, err := os.Open("/proc/self/ns/net")
	if id(t, main, err) != home {
		t.Error("the main thread strayed")
	}
	main.Close()
	broken := errors.New("broken")
	if err := Do(ns, func() error { return broken }); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	if err := Do(nil, func() error { return broken }); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
}

func TestHolders(t *testing.T) {
	self, err := OpenSelf()
	home := id(t, self, err)
	self.Close()
	ps, err := Holders(home)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range ps {
		if p.PID == os.Getpid() && p.Comm == "netns.test" && p.NS == home {
			return
		}
	}
	t.Errorf("not among %v", ps)
}

func TestRestore(t *testing.T) {
	testenv.Root(t)
	if err := Restore(DirState{}); err != nil { // of tests before
		t.Fatal(err)
	}
	before := testenv.Snapshot(t)
	was, err := StatDir()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // preparing twice mounts once
		if err := Prepare(); err != nil {
			t.Fatal(err)
		}
	}
	testenv.Run(t, "ip", "netns", "add", "other")
	if err := Restore(was); err != nil {
		t.Fatal(err)
	}
	if now, _ := StatDir(); now != (DirState{Exists: true, Mounted: true}) {
		t.Errorf("with a namespace in it: %+v", now)
	}
	testenv.Run(t, "ip", "netns", "del", "other")
	if err := Restore(was); err != nil {
		t.Fatal(err)
	}
	if testenv.Snapshot(t) != before {
		t.Error("the host is not as it was")
	}
}

func BenchmarkCreate(b *testing.B) {
	testenv.Root(b)
	if err := Prepare(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		ns, err := Create("bench", "nsbpf:bench", func() error {
			c, err := rtnl.Dial(nil)
			if err == nil {
				c.Close()
			}
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
		ns.Close()
		if err := Remove("bench"); err != nil {
			b.Fatal(err)
		}
	}
}
