package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// exits is the script command `exits CODE PROGRAM [ARG…]`: the program must end
// with that code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM [ARG…]")
	}
	code := 0
	err := ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

// until is the script command `until PROGRAM [ARG…]`: the program is run until it
// succeeds.
func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: until PROGRAM [ARG…]")
	}
	for deadline := time.Now().Add(15 * time.Second); ; {
		err := ts.Exec(args[0], args[1:]...)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("still: %v", err)
		}
	}
}

// checkJSON is the script command `[!] json PATH VALUE`: in one of the JSON
// documents on stdout, what is at PATH is VALUE. PATH is made of keys and indexes
// with dots between them, where * is any element and len their number.
func checkJSON(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: [!] json PATH VALUE")
	}
	var found []string
	for dec := json.NewDecoder(strings.NewReader(ts.ReadFile("stdout"))); ; {
		var doc any
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		ts.Check(err)
		found = append(found, at(doc, strings.Split(args[0], "."))...)
	}
	has := false
	for _, v := range found {
		has = has || v == args[1]
	}
	if has == neg {
		ts.Fatalf("%s is %q", args[0], found)
	}
}

// at returns what is at a path in a JSON value, as text.
func at(v any, path []string) []string {
	if len(path) == 0 {
		if f, ok := v.(float64); ok {
			return []string{strconv.FormatFloat(f, 'f', -1, 64)}
		}
		return []string{fmt.Sprint(v)}
	}
	var all []string
	switch v := v.(type) {
	case map[string]any:
		if below, ok := v[path[0]]; ok {
			return at(below, path[1:])
		}
	case []any:
		if path[0] == "len" {
			return at(float64(len(v)), path[1:])
		}
		for i, below := range v {
			if path[0] == "*" || path[0] == strconv.Itoa(i) {
				all = append(all, at(below, path[1:])...)
			}
		}
	}
	return all
}
