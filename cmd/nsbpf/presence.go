package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nsbpf/nsbpf/topology"
)

// presence watches whether a lab that is traced is still there.
type presence struct {
	stop   context.CancelFunc // ends the trace
	gone   error              // why it ended, or nil
	unread map[string]bool    // nodes that could not be read
	sought time.Time
}

// watchLab ends the trace of a lab that is gone, and says whether it is there. It
// looks once a second.
func (p *presence) watchLab(lab *topology.Lab) bool {
	if p.gone != nil || time.Since(p.sought) < time.Second {
		return p.gone == nil
	}
	p.sought = time.Now()
	now, err := topology.Open(lab.Name)
	switch {
	case errors.Is(err, topology.ErrNotUp), err == nil && !now.Created.Equal(lab.Created):
		p.gone = fmt.Errorf("lab %q was taken down while it was traced", lab.Name)
	case err == nil && now.State == topology.StateBroken:
		p.gone = fmt.Errorf("lab %q %w since it was traced: a namespace is gone (take it down: nsbpf down %[1]s)", lab.Name, topology.ErrBroken)
	}
	if p.gone != nil {
		p.stop()
	}
	return p.gone == nil
}

// absentError says that a node could not be read.
type absentError struct{ error }

func notThere(err error) error { return absentError{err} }

// read calls fn for a node, unless that could not be read before. A node that
// cannot be read, for it may be just going, ends no trace: less is known then.
func (p *presence) read(node string, fn func(node string) error) error {
	if p.unread[node] {
		return nil
	}
	err := fn(node)
	var absent absentError
	if !errors.As(err, &absent) {
		return err
	}
	if p.unread == nil {
		p.unread = make(map[string]bool)
	}
	p.unread[node] = true
	return nil
}
