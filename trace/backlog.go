package trace

import "github.com/nsbpf/nsbpf/collector"

// backlog keeps sightings in the order of their times until none that is
// earlier can come. Those that are in order, nearly all, cost one copy.
type backlog struct {
	held []collector.Sighting
	head int
}

func (b *backlog) empty() bool { return b.head == len(b.held) }

// all returns the sightings, earliest first.
func (b *backlog) all() []collector.Sighting { return b.held[b.head:] }

// take returns sighting i and drops it.
func (b *backlog) take(i int) collector.Sighting {
	s := b.held[b.head+i]
	copy(b.held[b.head+1:], b.held[b.head:b.head+i])
	b.drop()
	return s
}

func (b *backlog) len() int { return len(b.held) - b.head }

func (b *backlog) push(s *collector.Sighting) {
	b.held = append(b.held, *s)
	i := len(b.held) - 1
	for i > b.head && b.held[i-1].TimeNS > s.TimeNS {
		i--
	}
	if last := len(b.held) - 1; i < last {
		copy(b.held[i+1:], b.held[i:last])
		b.held[i] = *s
	}
}

func (b *backlog) drop() {
	b.head++
	const few = 1024
	switch {
	case b.empty():
		b.held, b.head = b.held[:0], 0
	case b.head >= few && b.head >= len(b.held)/2:
		b.held = b.held[:copy(b.held, b.held[b.head:])]
		b.head = 0
	}
}
