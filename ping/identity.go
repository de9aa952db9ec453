package ping

import "encoding/binary"

// magic begins the payload of each probe.
const magic = 0x6e736270 // "nsbp"

// identity is what a probe carries, and is known again by.
type identity struct {
	run    uint32 // the same for all of a Prober
	number uint32 // from 1
	sentNS uint64 // since the epoch
}

const identitySize = 20

// payload returns size bytes that begin with id; the rest count up, as ping's.
func (id identity) payload(size int) []byte {
	b := make([]byte, 0, max(size, identitySize))
	b = binary.BigEndian.AppendUint32(b, magic)
	b = binary.BigEndian.AppendUint32(b, id.run)
	b = binary.BigEndian.AppendUint32(b, id.number)
	b = binary.BigEndian.AppendUint64(b, id.sentNS)
	for len(b) < size {
		b = append(b, byte(len(b)))
	}
	return b
}

// parseIdentity returns the identity that b begins with, if it does.
func parseIdentity(b []byte) (id identity, ok bool) {
	if len(b) < identitySize || binary.BigEndian.Uint32(b) != magic {
		return id, false
	}
	return identity{
		run:    binary.BigEndian.Uint32(b[4:]),
		number: binary.BigEndian.Uint32(b[8:]),
		sentNS: binary.BigEndian.Uint64(b[12:]),
	}, true
}
