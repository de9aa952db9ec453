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
	blockCustom  = 0x00000bad

	orderMagic = 0x1a2b3c4d // a section's byte order
	// ourNumber is the private enterprise number of our blocks: that which RFC 5612
	// keeps for examples, since nsbpf has none. ourMagic tells them from others'.
	ourNumber = 32473
	ourMagic  = "nsbp"

	customHeader = 16      // type, length, number, magic
	mostCustom   = 1 << 20 // bytes of lines that go in one block
	longestBlock = 16 << 20
)

// appendCustom appends lines in custom blocks. A block's content ends in line feeds
// up to the next multiple of 4, which do no harm between lines.
func appendCustom(b, lines []byte) []byte {
	for len(lines) > 0 {
		part := lines[:min(len(lines), mostCustom)]
		lines = lines[len(part):]
		pad := -len(part) & 3
		total := uint32(customHeader + len(part) + pad + 4)
		b = binary.LittleEndian.AppendUint32(b, blockCustom)
		b = binary.LittleEndian.AppendUint32(b, total)
		b = binary.LittleEndian.AppendUint32(b, ourNumber)
		b = append(append(append(b, ourMagic...), part...), "\n\n\n"[:pad]...)
		b = binary.LittleEndian.AppendUint32(b, total)
	}
	return b
}

// blockReader reads the lines that a capture file holds in custom blocks. A file
// that is cut off ends with its last whole block.
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
	if kind != blockCustom || r.order.Uint32(head[8:]) != ourNumber || rest < len(ourMagic)+4 {
		_, err := r.in.Discard(rest)
		return ended(err)
	}
	body := make([]byte, rest)
	if _, err := io.ReadFull(r.in, body); err != nil {
		return ended(err)
	}
	if lines, ok := bytes.CutPrefix(body[:rest-4], []byte(ourMagic)); ok {
		r.lines.Reset(lines)
	}
	return nil
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
