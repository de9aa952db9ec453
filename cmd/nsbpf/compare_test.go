package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nsbpf/nsbpf/bench/result"
)

// benchFile writes a result whose cost of CPU is about that.
func benchFile(t *testing.T, name string, cost float64, kernel string) string {
	t.Helper()
	samples := make([]float64, 23)
	for i := range samples {
		samples[i] = cost * (1 + 0.002*float64((i*7)%23-11))
	}
	d := &result.Document{
		Schema: result.Schema, Lab: "pair", From: "left", To: "right", Environment: result.Environment{Kernel: kernel},
		Variants: []result.Variant{{Name: "pps", Metrics: []result.Metric{result.NewMetric("cpu", "ns/packet", result.Lower, true, samples)}}},
	}
	file := filepath.Join(t.TempDir(), name)
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(result.Write(f, d), f.Close()); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestBenchCompare(t *testing.T) {
	was := benchFile(t, "old.json", 200, "6.18")
	slower := benchFile(t, "slower.json", 220, "6.18")
	other := benchFile(t, "other.json", 200, "6.19")
	broken := filepath.Join(t.TempDir(), "broken.json")
	if err := os.WriteFile(broken, []byte(`{"schema": "nsbpf.ping/1"}`), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args []string
		exit int
		want string // part of what is printed, or of the error
	}{
		{[]string{was, was}, 0, "same: at most 5.0 % worse is allowed"},
		{[]string{was, slower}, 3, "+10 %"},
		{[]string{slower, was}, 0, "better"},
		{[]string{was, slower, "--max-regression", "20%"}, 0, "same: worse, but not by more"},
		{[]string{was, other}, 4, `kernel: "6.19", was "6.18"`},
		{[]string{was, other, "--ignore-environment"}, 0, "same"},
		{[]string{was, other, "--ignore-environment=cpu,kernel"}, 0, "same"},
		{[]string{was, slower, "--json"}, 3, `"verdict":"regression"`},
		{[]string{was, slower, "--format", "markdown"}, 3, "### ❌ nsbpf bench: regression"},
		{[]string{was, slower, "--format", "junit"}, 3, `failures="1"`},
		{[]string{was, slower, "--format", "yaml"}, 2, "want one of json, junit, markdown, table"},
		{[]string{was, broken}, 1, `broken.json: schema: "nsbpf.ping/1" is no result`},
		{[]string{was, "missing.json"}, 1, "missing.json: no such file"},
		{[]string{was}, 1, "accepts 2 arg"},
		{[]string{was, slower, "--max-regression", "5"}, 1, "is no effect"},
	} {
		var out bytes.Buffer
		c := newBenchCompareCmd(&env{stdout: &out, stderr: &out})
		c.SetArgs(test.args)
		c.SilenceUsage, c.SilenceErrors = true, true
		err := c.Execute()
		exit := 0
		var xe *exitError
		switch {
		case errors.As(err, &xe):
			exit = xe.code
		case err != nil:
			exit = exitFailed
		}
		said := out.String()
		if err != nil {
			said += err.Error()
		}
		if exit != test.exit || !strings.Contains(said, test.want) {
			t.Errorf("compare %v: exit %d, want %d and %q:\n%s", test.args, exit, test.exit, test.want, said)
		}
	}
}
