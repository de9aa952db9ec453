package recording

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Blocks of a capture file; see draft-ietf-opsawg-pcapng.
const (
	blockSection = 0x0a0d0d0a
	// blockLines holds lines. The first bit says that the type is for local use, so
	// other programs skip it. A custom block, which is there for this, Wireshark shows
	// as a packet without a time, and says no more how long the capture was.
	blockLines = 0x80006e73

	orderMagic = 0x1a2b3c4d // a section's byte order
	ourMagic   = "nsbp"     // tells our blocks of that type from others'

	linesHeader  = 12      // type, length, magic
	mostLines    = 1 << 20 // bytes that go in one block
	longestBlock = 16 << 20
)

// appendLines appends lines in blocks. A block's content ends in line feeds
// up to the next multiple of 4, which do no harm between lines.
func appendLines(b, lines []byte) []byte {
	for len(lines) > 0 {
		part := lines[:min(len(lines), mostLines)]
		lines = lines[len(part):]
		pad := -len(part) & 3
		total := uint32(linesHeader + len(part) + pad + 4)
		b = binary.LittleEndian.AppendUint32(b, blockLines)
		b = binary.LittleEndian.AppendUint32(b, total)
		b = append(append(append(b, ourMagic...), part...), "\n\n\n"[:pad]...)
		b = binary.LittleEndian.AppendUint32(b, total)
	}
	return b
}

// blockReader reads the lines that a capture file holds in blocks of ours, of a file
// that is cut off as far as they are there.
type blockReader struct {
	in    *bufio.Reader
	order binary.ByteOrder // of the section
	at    int64            // in the file
	lines bytes.Reader     // of the block
}

func newBlockReader(r io.Reader) *blockReader {
	return &blockReader{in: bufio.NewReaderSize(r, 1<<16), order: binary.LittleEndian}
}

func (r *blockReader) Read(p []byte) (int, error) {
	for r.lines.Len() == 0 {
		err := r.next()
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = io.EOF
		}
		if err != nil {
			return 0, err
		}
	}
	return r.lines.Read(p)
}

// next reads a block, and if it is ours its lines.
func (r *blockReader) next() error {
	var head [12]byte
	if _, err := io.ReadFull(r.in, head[:]); err != nil {
		return err
	}
	kind := r.order.Uint32(head[:])
	if kind == blockSection {
		if err := r.section(head[8:]); err != nil {
			return err
		}
	}
	total := r.order.Uint32(head[4:])
	if total < 12 || total%4 != 0 || total > longestBlock {
		return fmt.Errorf("the block at byte %d says that it is %d bytes long (is the file damaged?)", r.at, total)
	}
	r.at += int64(total)
	rest := int(total) - len(head)
	if kind != blockLines || string(head[8:]) != ourMagic || rest < 4 {
		_, err := r.in.Discard(rest)
		return ended(err)
	}
	body := make([]byte, rest)
	n, err := io.ReadFull(r.in, body)
	r.lines.Reset(body[:min(n, rest-4)])
	if n > 0 {
		return nil // what is missing is missed by the next read
	}
	return ended(err)
}

// section sets the byte order to that of the section with such a magic number.
func (r *blockReader) section(magic []byte) error {
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		if order.Uint32(magic) == orderMagic {
			r.order = order
			return nil
		}
	}
	return fmt.Errorf("the section at byte %d has no byte order (is the file damaged?)", r.at)
}

func ended(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
