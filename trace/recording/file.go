package recording

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/nsbpf/nsbpf/forward"
)

// Options say how a recording is kept. The zero value is one file of any size.
type Options struct {
	// RotateBytes is the size from which a recording goes on in another file; 0: any.
	// A file can be larger by what is kept to be sorted.
	RotateBytes int64
	// RotateFiles is how many files are kept, at least 1; 0: all.
	RotateFiles int
}

// Format is how a recording is written.
type Format uint8

const (
	NDJSON Format = iota // lines of JSON
	PcapNG               // a capture file with the same lines in it
)

// FormatOf returns the format that is meant by the end of a file's name: .ndjson
// or .pcapng. The error says that it is neither.
func FormatOf(path string) (Format, error) {
	switch filepath.Ext(path) {
	case ".ndjson":
		return NDJSON, nil
	case ".pcapng":
		return PcapNG, nil
	}
	return 0, fmt.Errorf("recording to %q: the format is not known (want a name that ends in .ndjson or .pcapng)", path)
}

// writer writes events to a file.
type writer interface {
	Write(Event) error
	finish() error // writes what is still kept
}

// File is a recording that is being written.
//
// A file x.ndjson is followed by x-1.ndjson, x-2.ndjson and so on. Each begins as
// the first did and has again the filters, the nodes' configurations and their
// losses as they are then, so that it can be replayed alone; of a packet that was on its way when it began,
// it has the rest of the Path. Files beyond [Options.RotateFiles] are deleted,
// oldest first.
type File struct {
	path  string
	start Start
	opts  Options
	open  func(io.Writer, Start) (writer, error)

	file    *os.File
	out     *bufio.Writer
	written int64 // to the file
	writer  writer
	number  int      // of files that were ended
	kept    []string // files
	filters []Filter
	nodes   []*forward.Node // the newest of each
	losses  []*Losses       // likewise
	broken  bool            // something could not be written, and that was said
}

// Create begins a recording in the file of that name, which it empties if there is
// one; [FormatOf] says how.
//
// If it is to be rotated, and files that would be its next ones exist, that is an
// error, for they are of another recording.
func Create(path string, start Start, opts Options) (*File, error) {
	f := &File{path: path, start: start, opts: opts}
	format, err := FormatOf(path)
	if err != nil {
		return nil, err
	}
	kept := newSnaps()
	f.open = func(w io.Writer, s Start) (writer, error) {
		if format == PcapNG {
			return newCapture(w, s, kept)
		}
		return NewWriter(w, s)
	}
	if opts.RotateBytes > 0 {
		if err := f.unclaimed(); err != nil {
			return nil, err
		}
	}
	if err := f.begin(path); err != nil {
		return nil, err
	}
	return f, nil
}

// unclaimed says that no file has the name of one that would follow.
func (f *File) unclaimed() error {
	stem, ext := f.stem()
	names, err := os.ReadDir(filepath.Dir(f.path))
	if err != nil {
		return fmt.Errorf("recording to %q: %w", f.path, err)
	}
	for _, n := range names {
		number, ok := strings.CutPrefix(n.Name(), filepath.Base(stem)+"-")
		number, is := strings.CutSuffix(number, ext)
		if _, err := strconv.ParseUint(number, 10, 32); ok && is && err == nil {
			return fmt.Errorf("recording to %q: %q exists, of another recording (remove it or choose another name)",
				f.path, filepath.Join(filepath.Dir(f.path), n.Name()))
		}
	}
	return nil
}

func (f *File) stem() (stem, ext string) {
	ext = filepath.Ext(f.path)
	return strings.TrimSuffix(f.path, ext), ext
}

// nth returns the name of the file that follows n others.
func (f *File) nth(n int) string {
	stem, ext := f.stem()
	return fmt.Sprintf("%s-%d%s", stem, n, ext)
}

// begin opens a file and writes what each begins with.
func (f *File) begin(path string) error {
	file, err := os.Create(path)
	if err != nil {
		f.broken = true
		return fmt.Errorf("recording: %w", err)
	}
	f.file = file
	f.kept = append(f.kept, path)
	f.out = bufio.NewWriterSize(f.file, 1<<16)
	f.written = 0
	if f.writer, err = f.open(counter{f}, f.start); err != nil {
		return f.failed(errors.Join(err, f.file.Close()))
	}
	if f.filters != nil {
		err = f.writer.Write(Event{Filters: f.filters})
	}
	for _, n := range f.nodes {
		err = errors.Join(err, f.writer.Write(Event{Node: n}))
	}
	for _, l := range f.losses {
		err = errors.Join(err, f.writer.Write(Event{Losses: l}))
	}
	return f.failed(err)
}

// counter counts what is written to a File's file.
type counter struct{ f *File }

func (c counter) Write(p []byte) (int, error) {
	n, err := c.f.out.Write(p)
	c.f.written += int64(n)
	return n, err
}

// failed notes that err happened, if it did.
func (f *File) failed(err error) error {
	if err == nil {
		return nil
	}
	f.broken = true
	return fmt.Errorf("recording to %q: %w", f.file.Name(), err)
}

// Write records e. What came up to a time that an Input says is on its way to the
// disk when Write returns.
func (f *File) Write(e Event) error {
	f.remember(e)
	if err := f.writer.Write(e); err != nil {
		return f.failed(err)
	}
	if e.Input == nil || e.Input.Until == 0 {
		return nil
	}
	if err := f.out.Flush(); err != nil {
		return f.failed(err)
	}
	if f.opts.RotateBytes > 0 && f.written >= f.opts.RotateBytes {
		return f.rotate()
	}
	return nil
}

// remember keeps what the next file begins with.
func (f *File) remember(e Event) {
	switch {
	case e.Filters != nil:
		f.filters = append([]Filter{}, e.Filters...)
	case e.Node != nil:
		f.nodes = renew(f.nodes, e.Node, func(n *forward.Node) string { return n.Name })
	case e.Losses != nil:
		f.losses = renew(f.losses, e.Losses, func(l *Losses) string { return l.Node })
	}
}

// renew puts one into all instead of that of the same name.
func renew[T any](all []T, one T, name func(T) string) []T {
	is := func(other T) bool { return name(other) == name(one) }
	if i := slices.IndexFunc(all, is); i >= 0 {
		all[i] = one
		return all
	}
	return append(all, one)
}

// rotate goes on in the next file.
func (f *File) rotate() error {
	f.number++
	next := f.nth(f.number)
	if err := f.writer.Write(Event{Next: filepath.Base(next)}); err != nil {
		return f.failed(err)
	}
	if err := f.end(); err != nil {
		return err
	}
	if err := f.begin(next); err != nil {
		return err
	}
	for f.opts.RotateFiles > 0 && len(f.kept) > f.opts.RotateFiles {
		if err := os.Remove(f.kept[0]); err != nil {
			return fmt.Errorf("recording: %w", err)
		}
		f.kept = f.kept[1:]
	}
	return nil
}

// end finishes the file that is open.
func (f *File) end() error {
	// Of the same error one is enough.
	err := cmp.Or(f.writer.finish(), f.out.Flush())
	return f.failed(errors.Join(err, f.file.Close()))
}

// Close finishes the recording; one that could not be written is left as it is. A
// second Close does nothing.
func (f *File) Close() error {
	if f.writer == nil {
		return nil
	}
	if f.broken {
		_ = f.file.Close() // it may be closed, and more than was said is of no use
		f.writer = nil
		return nil
	}
	err := f.end()
	f.writer = nil
	return err
}

// Names returns the files that there are, oldest first.
func (f *File) Names() []string { return f.kept }

// OpenFile opens a recording of either format, which it tells from what is in the
// file. It is read on in the files in which it goes on, as far as they are there.
// Close it after use.
func OpenFile(path string) (*Reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading a recording: %w", err)
	}
	r, err := openReader(f, path)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	r.file = f
	return r, nil
}

// goOn goes on in the file of that name, if it is there and of the same recording.
func (r *Reader) goOn(name string) (is bool, err error) {
	path := filepath.Join(filepath.Dir(r.name), filepath.Base(name))
	if r.file == nil || slices.Contains(r.names, path) {
		return false, nil
	}
	next, err := OpenFile(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errEmpty) { // not yet, perhaps
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if next.start.TimeNS != r.start.TimeNS || next.start.Lab != r.start.Lab {
		return false, errors.Join(next.Close(), fmt.Errorf("%s goes on in %s, but that is of another recording", r.name, path))
	}
	next.names = append(r.names, r.name)
	err = r.file.Close()
	*r = *next
	return true, err
}

func openReader(f io.Reader, name string) (*Reader, error) {
	in := bufio.NewReader(f)
	switch head, _ := in.Peek(4); string(head) {
	case "\n\r\r\n": // a section's, the same in either byte order
	case "\xd4\xc3\xb2\xa1", "\x4d\x3c\xb2\xa1":
		return nil, fmt.Errorf("%s: there is no recording in it (it is a pcap file that nsbpf did not write)", name)
	default:
		return newReader(in, name)
	}
	r, err := newReader(newBlockReader(in), name)
	if errors.Is(err, errEmpty) {
		return nil, fmt.Errorf("%w (it is a capture file that nsbpf did not write, or another program did after it)", err)
	}
	return r, err
}
