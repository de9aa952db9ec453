package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/nsbpf/nsbpf/trace/recording"
)

// recordingFlags are the flags of what writes a recording.
type recordingFlags struct {
	file   string
	snap   int
	rotate size
	files  int
	given  func() bool // whether file was; nil: no
}

func (f *recordingFlags) add(fl *pflag.FlagSet) {
	fl.StringVarP(&f.file, "write", "w", "", "record to `FILE`.ndjson or FILE.pcapng")
	f.given = func() bool { return fl.Changed("write") }
	fl.Var(&f.rotate, "rotate", "begin a new file when one has that `SIZE`, such as 100MB")
	fl.IntVar(&f.files, "files", 0, "keep the newest `N` files (0: all)")
}

// mostSnap is as much of a packet as can be recorded.
const mostSnap = 1<<16 - 1

// options checks the flags.
func (f *recordingFlags) options() (snap int, _ recording.Options, err error) {
	o := recording.Options{RotateBytes: int64(f.rotate), RotateFiles: f.files}
	switch {
	case f.file == "" && f.given != nil && f.given():
		return 0, o, usagef("-w wants the name of a file, such as x.pcapng (it is empty)")
	case f.file == "":
		if f.snap >= 0 || f.rotate > 0 || f.files != 0 {
			return 0, o, usagef("--snap, --rotate and --files are about a recording (give its file: -w FILE.pcapng)")
		}
		return 0, o, nil
	case f.snap > mostSnap:
		return 0, o, usagef("--snap %d is more than can be recorded of a packet (want at most %d)", f.snap, mostSnap)
	case f.snap < -1:
		return 0, o, usagef("--snap %d is negative", f.snap)
	case f.files < 0:
		return 0, o, usagef("--files %d is negative", f.files)
	case f.files > 0 && f.rotate == 0:
		return 0, o, usagef("--files wants --rotate SIZE: without it there is one file")
	}
	snap = f.snap
	switch format, err := recording.FormatOf(f.file); {
	case err != nil:
		return 0, o, usage(err)
	case snap < 0 && format == recording.PcapNG:
		snap = 256
	}
	return max(snap, 0), o, nil
}

// size is a number of bytes, with or without a unit.
type size int64

func (s *size) String() string { return strconv.FormatInt(int64(*s), 10) }
func (s *size) Type() string   { return "SIZE" }

func (s *size) Set(v string) error {
	number, unit := strings.ToUpper(strings.TrimSpace(v)), int64(1)
	for _, u := range []struct {
		suffix string
		bytes  int64
	}{{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"K", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}, {"B", 1}} {
		if rest, ok := strings.CutSuffix(number, u.suffix); ok {
			number, unit = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n <= 0 || n > math.MaxInt64/unit {
		return fmt.Errorf("%q is no size (want for example 100MB)", v)
	}
	*s = size(n * unit)
	return nil
}
