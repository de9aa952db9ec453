package trace

// addresses finds the open Path of a kernel address. It is a hash table with
// linear probing: nearly every sighting is looked up, and each Path comes and
// goes, which costs a built-in map more than all else that is done.
type addresses struct {
	slots []address // a power of two, half of them free at least
	used  int
}

type address struct {
	at   uint64 // 0: the slot is free
	path *open
}

func newAddresses() addresses { return addresses{slots: make([]address, 128)} }

// home returns the slot where at belongs if it is free. Kernel addresses differ
// in the middle.
func (a *addresses) home(at uint64) uint64 {
	return at * 0x9e3779b97f4a7c15 >> 32 & uint64(len(a.slots)-1)
}

// slot returns the slot of at, or the free one where it belongs.
func (a *addresses) slot(at uint64) uint64 {
	i := a.home(at)
	for a.slots[i].at != at && a.slots[i].at != 0 {
		i = (i + 1) & uint64(len(a.slots)-1)
	}
	return i
}

// find returns the Path of at, or nil. There is none of 0.
func (a *addresses) find(at uint64) *open { return a.slots[a.slot(at)].path }

// set makes o the Path of at, which is not 0.
func (a *addresses) set(at uint64, o *open) {
	i := a.slot(at)
	if a.slots[i].at == 0 {
		if 2*a.used >= len(a.slots) {
			a.grow()
			i = a.slot(at)
		}
		a.used++
	}
	a.slots[i] = address{at, o}
}

func (a *addresses) grow() {
	old := a.slots
	a.slots = make([]address, 2*len(old))
	for _, s := range old {
		if s.at != 0 {
			a.slots[a.slot(s.at)] = s
		}
	}
}

// remove forgets at if it is o's. What was put behind it for want of room moves
// up.
func (a *addresses) remove(at uint64, o *open) {
	i := a.slot(at)
	if at == 0 || a.slots[i].path != o {
		return
	}
	a.used--
	mask := uint64(len(a.slots) - 1)
	for k := (i + 1) & mask; a.slots[k].at != 0; k = (k + 1) & mask {
		if home := a.home(a.slots[k].at); (k-home)&mask >= (k-i)&mask {
			a.slots[i] = a.slots[k]
			i = k
		}
	}
	a.slots[i] = address{}
}
