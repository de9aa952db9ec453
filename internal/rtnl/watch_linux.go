package rtnl

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Watch tells of changes to the devices and IPv6 addresses of a namespace, from
// the moment it was opened.
type Watch struct{ socket *nl.NetlinkSocket }

// OpenWatch starts to watch ns; nil is the caller's namespace.
func OpenWatch(ns *os.File) (*Watch, error) {
	s, err := nl.SubscribeAt(handleOf(ns), netns.None(), unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV6_IFADDR)
	if err != nil {
		return nil, fmt.Errorf("watch devices: %w", err)
	}
	return &Watch{socket: s}, nil
}

// Wait returns when something changed since the last Wait, or with ctx's error.
// A Watch whose ctx ended is closed.
func (w *Watch) Wait(ctx context.Context) error {
	stop := context.AfterFunc(ctx, w.socket.Close)
	defer stop()
	_, _, err := w.socket.Receive()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	// More happened than the socket holds: that is a change, too.
	if err != nil && !errors.Is(err, unix.ENOBUFS) {
		return fmt.Errorf("watch devices: %w", err)
	}
	w.drain()
	return nil
}

// drain forgets the changes that are already known of, so that a caller who
// looks at everything on each change looks once for all of them.
func (w *Watch) drain() {
	var scratch [1]byte
	for {
		_, _, err := unix.Recvfrom(w.socket.GetFd(), scratch[:], unix.MSG_DONTWAIT|unix.MSG_TRUNC)
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			return
		}
	}
}

// Close ends the watch. It may be called more than once.
func (w *Watch) Close() { w.socket.Close() }
