package trace

// index files open Paths in chains, by a number that is a hash. It is a hash
// table of its own since each Path comes and goes: a chain is removed by where it
// stands and used again.
type index struct {
	buckets []*chain // a power of two
	chains  int
	spare   *chain
	link    func(*open) *link
}

// chain is the open Paths of one number, oldest first. Those that are done are
// apart, or they would stand before the ones that wait.
type chain struct {
	key           uint64
	next          *chain // of the same bucket
	waiting, done list
}

func newIndex(link func(*open) *link) index {
	return index{buckets: make([]*chain, 64), link: link}
}

// at returns the chain of key, or nil.
func (x *index) at(key uint64) *chain {
	c := *x.bucket(key)
	for c != nil && c.key != key {
		c = c.next
	}
	return c
}

func (x *index) bucket(key uint64) **chain {
	return &x.buckets[key>>32&uint64(len(x.buckets)-1)]
}

func (c *chain) of(o *open) *list {
	if o.done {
		return &c.done
	}
	return &c.waiting
}

// add files o under key and returns the chain.
func (x *index) add(o *open, key uint64) *chain {
	c := x.at(key)
	if c == nil {
		c = x.create(key)
	}
	c.of(o).push(o, x.link)
	return c
}

func (x *index) create(key uint64) *chain {
	if x.chains >= len(x.buckets) {
		x.grow()
	}
	c := x.spare
	if c == nil {
		c = &chain{}
	}
	x.spare = c.next
	b := x.bucket(key)
	c.key, c.next = key, *b
	*b = c
	x.chains++
	return c
}

func (x *index) grow() {
	old := x.buckets
	x.buckets = make([]*chain, 2*len(old))
	for _, c := range old {
		for c != nil {
			next, b := c.next, x.bucket(c.key)
			c.next, *b = *b, c
			c = next
		}
	}
}

// remove takes o out of c, which may be nil.
func (x *index) remove(o *open, c *chain) {
	if c == nil {
		return
	}
	c.of(o).remove(o, x.link)
	if c.waiting.first != nil || c.done.first != nil {
		return
	}
	b := x.bucket(c.key)
	for *b != c {
		b = &(*b).next
	}
	*b = c.next
	c.next, x.spare = x.spare, c
	x.chains--
}

// leave and enter move o, in c if that is not nil, between c's lists while its
// done changes.
func (x *index) leave(o *open, c *chain) {
	if c != nil {
		c.of(o).remove(o, x.link)
	}
}

func (x *index) enter(o *open, c *chain) {
	if c != nil {
		c.of(o).push(o, x.link)
	}
}

// oldestFirst calls visit for the Paths of key that wait, until it returns false,
// and returns whether it never did. visit may move the Path that it is called
// for, and no other.
func (x *index) oldestFirst(key uint64, visit func(*open) bool) bool {
	c := x.at(key)
	if c == nil {
		return true
	}
	o := c.waiting.first
	for tries := 0; o != nil && tries < maxTies; tries++ {
		next := x.link(o).next
		if !visit(o) {
			return false
		}
		o = next
	}
	return true
}

// newestFirst calls visit for the Paths of key, those that wait and then those
// that are done, the newest first, and returns as oldestFirst.
func (x *index) newestFirst(key uint64, visit func(*open) bool) bool {
	c := x.at(key)
	if c == nil {
		return true
	}
	for _, o := range [...]*open{c.waiting.last, c.done.last} {
		for tries := 0; o != nil && tries < maxTies; tries++ {
			prev := x.link(o).prev
			if !visit(o) {
				return false
			}
			o = prev
		}
	}
	return true
}
