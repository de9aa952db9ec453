package topology

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// errNoRecord says that a journal ends before its first line does.
var errNoRecord = errors.New("the journal is empty")

// journal is a lab's list of what was begun: a record, and then one step a line,
// each written before the step is done. A line is one write(2), so that a
// process that dies leaves at most one line unfinished, whose step was not begun.
type journal struct{ file *os.File }

func journalFile(name string) string { return filepath.Join(labDir(name), "journal") }

// createJournal makes the lab's directory and its journal.
func createJournal(r *record) (*journal, error) {
	if err := os.Mkdir(labDir(r.Name), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(journalFile(r.Name), os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	j := &journal{file: f}
	line, err := json.Marshal(r)
	if err == nil {
		err = j.write(line)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return j, nil
}

// begin notes that s is about to be done.
func (j *journal) begin(s Step) error {
	line, err := MarshalStep(s)
	if err != nil {
		return err
	}
	return j.write(line)
}

func (j *journal) write(line []byte) error {
	if _, err := j.file.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return nil
}

func (j *journal) close() error { return j.file.Close() }

// readJournal returns what was begun for the lab of that name. The error wraps
// [errNoRecord] if nothing was.
func readJournal(name string) (*record, Plan, error) {
	b, err := os.ReadFile(journalFile(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, errNoRecord
	} else if err != nil {
		return nil, nil, err
	}
	return parseJournal(b)
}

func parseJournal(b []byte) (*record, Plan, error) {
	lines := bytes.Split(b, []byte("\n"))
	lines = lines[:len(lines)-1] // what follows the last newline is unfinished
	if len(lines) == 0 {
		return nil, nil, errNoRecord
	}
	r := &record{}
	if err := json.Unmarshal(lines[0], r); err != nil {
		return nil, nil, fmt.Errorf("journal line 1: %w", err)
	}
	if err := r.check(); err != nil {
		return nil, nil, fmt.Errorf("journal line 1: %w", err)
	}
	var p Plan
	for i, line := range lines[1:] {
		s, err := UnmarshalStep(line)
		if err != nil {
			return nil, nil, fmt.Errorf("journal line %d: %w", i+2, err)
		}
		p = append(p, s)
	}
	return r, p, nil
}

// writeFile replaces path in one step.
func writeFile(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	next := path + ".new"
	if err := os.WriteFile(next, append(b, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(next, path)
}
