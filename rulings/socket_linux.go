package rulings

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"os"
	"syscall"
	"time"
	"unsafe"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/nsbpf/nsbpf/internal/netns"
)

// socket talks nfnetlink with one namespace. The kernel answers what is sent
// before send returns, so answers need not be waited for.
type socket struct {
	file *os.File
	raw  syscall.RawConn
	seq  uint32
	buf  []byte
}

// dial opens a socket in ns; nil is the caller's namespace.
func dial(ns *os.File) (*socket, error) {
	var file *os.File
	err := netns.Do(ns, func() error {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
		if err != nil {
			return err
		}
		file = os.NewFile(uintptr(fd), "nfnetlink")
		// A socket without an address hears no groups.
		return unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	})
	var raw syscall.RawConn
	if err == nil {
		raw, err = file.SyscallConn()
	}
	if err != nil {
		file.Close() // which a nil file takes
		return nil, fmt.Errorf("open nfnetlink socket: %w", err)
	}
	// The largest message is a part of a dump, of 32 KiB at most.
	s := &socket{file: file, raw: raw, buf: make([]byte, 64<<10)}
	// What the kernel has to say about a refusal.
	if err := s.set(unix.NETLINK_EXT_ACK, 1); err != nil {
		file.Close()
		return nil, err
	}
	return s, nil
}

func (s *socket) close() error { return s.file.Close() }

// control runs a call on the descriptor.
func (s *socket) control(call func(fd int) error) error {
	var err error
	if ctlErr := s.raw.Control(func(fd uintptr) { err = call(int(fd)) }); ctlErr != nil {
		return ctlErr
	}
	return err
}

// set sets an option of netlink.
func (s *socket) set(option, value int) error {
	err := s.control(func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_NETLINK, option, value) })
	if err != nil {
		return fmt.Errorf("set nfnetlink option %d: %w", option, err)
	}
	return nil
}

// subscribe makes room for size bytes of messages and joins groups. Messages for
// which there is no room are counted (see drops) and not announced.
func (s *socket) subscribe(size int, groups ...int) error {
	err := s.control(func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size) })
	if err != nil {
		return fmt.Errorf("set receive buffer of %d bytes: %w", size, err)
	}
	if err := s.set(unix.NETLINK_NO_ENOBUFS, 1); err != nil {
		return err
	}
	for _, g := range groups {
		if err := s.set(unix.NETLINK_ADD_MEMBERSHIP, g); err != nil {
			return err
		}
	}
	return nil
}

// drops returns for how many messages there was no room.
func (s *socket) drops() (uint32, error) {
	const index, count = 8, 9 // SK_MEMINFO_DROPS, SK_MEMINFO_VARS
	var meminfo [count]uint32
	size := uint32(unsafe.Sizeof(meminfo))
	err := s.control(func(fd int) error {
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&meminfo)), uintptr(unsafe.Pointer(&size)), 0)
		if errno != 0 {
			return errno
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("read what nfnetlink lost: %w", err)
	}
	return meminfo[index], nil
}

// wake ends a receive that waits, and all later ones.
func (s *socket) wake() error { return s.file.SetReadDeadline(time.Unix(1, 0)) }

// send sends messages as one.
func (s *socket) send(messages ...netlink.Message) error {
	var all []byte
	for _, m := range messages {
		s.seq++
		m.Header.Sequence = s.seq
		m.Header.Length = uint32(unix.NLMSG_HDRLEN + len(m.Data))
		m.Header.Flags |= netlink.Request
		b, err := m.MarshalBinary()
		if err != nil {
			return err
		}
		all = append(all, b...)
	}
	return s.control(func(fd int) error {
		return unix.Sendto(fd, all, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	})
}

// receive returns the next messages, which are valid until the next call. If there
// is none it waits for one or returns none; a wake is os.ErrDeadlineExceeded.
func (s *socket) receive(wait bool) ([]syscall.NetlinkMessage, error) {
	var n int
	var err error
	read := func(fd uintptr) bool {
		n, _, err = unix.Recvfrom(int(fd), s.buf, unix.MSG_DONTWAIT|unix.MSG_TRUNC)
		return err != unix.EAGAIN
	}
	call := s.raw.Read
	if !wait {
		call = func(f func(uintptr) bool) error { return s.raw.Control(func(fd uintptr) { f(fd) }) }
	}
	switch callErr := call(read); {
	case callErr != nil:
		return nil, callErr
	case err == unix.EAGAIN:
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read nfnetlink: %w", err)
	case n > len(s.buf):
		return nil, fmt.Errorf("read nfnetlink: message of %d bytes", n)
	}
	return syscall.ParseNetlinkMessage(s.buf[:n])
}

// refusal is the kernel's answer to a message that it did not take.
type refusal struct {
	kind  uint16 // of the message
	errno syscall.Errno
	text  string // what the kernel says of it
}

func (r *refusal) Error() string {
	if r.text == "" {
		return r.errno.Error()
	}
	return r.errno.Error() + " (" + r.text + ")"
}

func (r *refusal) Unwrap() error { return r.errno }

// exchange sends messages and calls take with each of the answers. The error is
// the first *refusal, or take's.
func (s *socket) exchange(take func(syscall.NetlinkMessage) error, messages ...netlink.Message) error {
	if err := s.send(messages...); err != nil {
		return fmt.Errorf("write nfnetlink: %w", err)
	}
	var first error
	for {
		answers, err := s.receive(false)
		if err != nil || len(answers) == 0 {
			return cmp.Or(first, err)
		}
		for _, a := range answers {
			err := error(nil)
			switch a.Header.Type {
			case unix.NLMSG_ERROR:
				err = refused(a)
			case unix.NLMSG_DONE:
			default:
				err = take(a)
			}
			first = cmp.Or(first, err)
		}
	}
}

// refused returns the *refusal that an NLMSG_ERROR is, or nil: it says yes.
func refused(m syscall.NetlinkMessage) error {
	const header = 4 + unix.NLMSG_HDRLEN // the error, and the message's header
	if len(m.Data) < header {
		return fmt.Errorf("answer of %d bytes", len(m.Data))
	}
	errno := -int32(binary.NativeEndian.Uint32(m.Data))
	if errno == 0 {
		return nil
	}
	r := &refusal{errno: syscall.Errno(errno), kind: binary.NativeEndian.Uint16(m.Data[8:])}
	tail := m.Data[header:]
	if m.Header.Flags&unix.NLM_F_CAPPED == 0 {
		size := int(binary.NativeEndian.Uint32(m.Data[4:])) - unix.NLMSG_HDRLEN
		tail = tail[min(max(size, 0), len(tail)):]
	}
	if m.Header.Flags&unix.NLM_F_ACK_TLVS == 0 {
		return r
	}
	if ad, err := netlink.NewAttributeDecoder(tail); err == nil {
		for ad.Next() {
			if ad.Type() == unix.NLMSGERR_ATTR_MSG {
				r.text = ad.String()
			}
		}
	}
	return r
}
