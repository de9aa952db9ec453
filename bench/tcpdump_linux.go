package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nsbpf/nsbpf/internal/netns"
)

// Device is a device in a namespace.
type Device struct {
	Netns *os.File
	Name  string
}

// Tcpdump is the variant in which tcpdump, the tool everybody would use instead,
// captures the headers of every packet at each device.
func Tcpdump(devices []Device) Variant {
	return Variant{Name: "tcpdump", Enter: func(context.Context) (func() error, error) {
		var running []*exec.Cmd
		leave := func() error {
			var errs []error
			for _, c := range running {
				errs = append(errs, c.Process.Signal(unix.SIGINT), c.Wait())
			}
			return errors.Join(errs...)
		}
		for _, d := range devices {
			c, err := startTcpdump(d)
			if err != nil {
				return nil, errors.Join(fmt.Errorf("tcpdump on %s: %w", d.Name, err), leave())
			}
			running = append(running, c)
		}
		return leave, nil
	}}
}

// startTcpdump returns when tcpdump captures.
func startTcpdump(d Device) (*exec.Cmd, error) {
	c := exec.Command("tcpdump", "-n", "-s", "96", "-w", os.DevNull, "-i", d.Name)
	stderr, err := c.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := netns.Do(d.Netns, c.Start); err != nil {
		return nil, err
	}
	said := bufio.NewReader(stderr)
	for {
		line, err := said.ReadString('\n')
		if strings.Contains(line, "listening on") {
			go io.Copy(io.Discard, said) // it says more when it ends
			return c, nil
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%w: %s", err, line), c.Wait())
		}
	}
}
