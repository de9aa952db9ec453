// Package ping sends packets that are known again by what they carry, waits for
// what answers them, and finds their Paths and those of the answers in a trace.
// Only the files named *_linux.go touch the kernel.
package ping

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Proto is what probes are.
type Proto uint8

const (
	ICMP Proto = iota // echo requests
	UDP               // datagrams
	TCP               // SYNs, for which no connection is kept
)

var protoNames = [...]string{"icmp", "udp", "tcp"}

// String returns the name as the command line has it.
func (p Proto) String() string { return protoNames[p] }

// ParseProto returns the Proto of that name.
func ParseProto(s string) (Proto, error) {
	for i, n := range protoNames {
		if n == s {
			return Proto(i), nil
		}
	}
	return 0, fmt.Errorf("%q is no protocol of probes (want icmp, udp or tcp)", s)
}

// Options says what to send where.
type Options struct {
	Proto Proto
	Dst   netip.Addr
	Port  uint16 // of UDP and TCP
	// Count is how many probes are sent; 0: 5.
	Count int
	// Interval is the time from one probe to the next; 0: 200 ms.
	Interval time.Duration
	// Timeout is how long an answer is waited for; 0: 1 s.
	Timeout time.Duration
	// Size is how many bytes follow the ICMP or UDP header; 0: 56. SYNs carry none.
	Size int
	// TTL, or hop limit; 0: the kernel's.
	TTL int
	// DontFragment keeps the kernel from sending a probe in fragments.
	DontFragment bool
}

// Bounds of what [Options] take.
const (
	MaxCount    = 100000
	MinInterval = time.Millisecond
	MaxWait     = time.Hour // of Interval and Timeout
	MaxSize     = 65507     // 65535 less the headers of IPv4 and UDP
)

// WithDefaults returns o with the defaults of what is 0.
func (o Options) WithDefaults() Options {
	if o.Count == 0 {
		o.Count = 5
	}
	if o.Interval == 0 {
		o.Interval = 200 * time.Millisecond
	}
	if o.Timeout == 0 {
		o.Timeout = time.Second
	}
	if o.Size == 0 && o.Proto != TCP {
		o.Size = 56
	}
	return o
}

// Check returns all that is wrong with o, whose defaults are filled in, or nil.
func (o Options) Check() error {
	var errs []error
	wrong := func(is bool, format string, args ...any) {
		if is {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	wrong(o.Count < 1 || o.Count > MaxCount, "count %d is out of range (want 1 to %d)", o.Count, MaxCount)
	wrong(o.Interval < MinInterval || o.Interval > MaxWait, "interval %s is out of range (want %s to %s)", o.Interval, MinInterval, MaxWait)
	wrong(o.Timeout < MinInterval || o.Timeout > MaxWait, "timeout %s is out of range (want %s to %s)", o.Timeout, MinInterval, MaxWait)
	wrong(o.TTL < 0 || o.TTL > 255, "TTL %d is out of range (want 1 to 255)", o.TTL)
	if o.Proto == ICMP {
		wrong(o.Port != 0, "icmp has no ports (leave port %d out, or probe by udp or tcp)", o.Port)
	} else {
		wrong(o.Port == 0, "%s needs a port", o.Proto)
	}
	if o.Proto == TCP {
		wrong(o.Size != 0, "a SYN carries no data (leave size %d out, or probe by icmp or udp)", o.Size)
	} else {
		wrong(o.Size < identitySize, "size %d is too small (a probe is known again by %d bytes)", o.Size, identitySize)
		wrong(o.Size > MaxSize, "size %d is too large (a packet carries at most %d)", o.Size, MaxSize)
	}
	if err := CheckHost(o.Dst); err != nil {
		errs = append(errs, err)
	} else if o.Dst.IsLinkLocalUnicast() && o.Dst.Is6() {
		wrong(true, "%s is link-local (give an address that is known beyond one link)", o.Dst)
	}
	return errors.Join(errs...)
}

// CheckHost says why an address cannot be that of one host, and nil if it can. The
// broadcast address of a net looks like any other.
func CheckHost(a netip.Addr) error {
	switch {
	case !a.IsValid() || a.IsUnspecified():
		return errors.New("there is no address to probe")
	case a.IsMulticast():
		return fmt.Errorf("%s is a multicast address (give one host's)", a)
	case a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Errorf("%s is the broadcast address (give one host's)", a)
	}
	return nil
}

// Length returns how long a probe is, with the IP header.
func (o Options) Length() int {
	length := 20
	if o.Dst.Is6() {
		length = 40
	}
	if o.Proto == TCP {
		return length + synSize
	}
	return length + 8 + o.Size
}
