package main

import (
	"encoding/xml"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/nsbpf/nsbpf/internal/testenv"
)

// ciStep is a step of action.yml.
type ciStep struct {
	Name, If, Shell, Run, Uses string
	Env, With                  map[string]string
}

// ciAction is action.yml.
type ciAction struct {
	Name, Description string
	Branding          map[string]string
	Inputs            map[string]struct {
		Description string
		Required    bool
		Default     string
	}
	Runs struct {
		Using string
		Steps []ciStep
	}
}

func readYAML(t *testing.T, file string, v any) {
	t.Helper()
	if err := yaml.UnmarshalWithOptions([]byte(readText(t, file)), v, yaml.Strict()); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// TestAction runs the steps of the GitHub action as a runner does, on networks of
// which all holds and on one of which something does not. The first time nsbpf is
// installed by its step, and then the program of the test is there.
func TestAction(t *testing.T) {
	testenv.Root(t)
	var action ciAction
	readYAML(t, "../../action.yml", &action)
	firewall := `nsbpf exec router -- nft 'table inet firewall { chain f { type filter hook forward priority 0; tcp dport 5432 drop; }; }'`
	for _, tt := range []struct {
		name     string
		inputs   map[string]string
		code     int
		failures string
	}{
		{"expect", map[string]string{}, 0, `tests="4" failures="0"`},
		{"a file", map[string]string{"prepare": firewall, "assertions": "examples/ci/firewall.yaml", "assert": "--timeout 2s"}, 0, `tests="3" failures="0"`},
		{"no firewall", map[string]string{"assertions": "examples/ci/firewall.yaml"}, 3, `tests="3" failures="2"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			leavesNothing(t)
			install := tt.name == "expect" && !testing.Short()
			tt.inputs["network"] = "examples/ci/network.yaml"
			tt.inputs["junit"] = filepath.Join(t.TempDir(), "nsbpf.xml")
			if code := action.run(t, tt.inputs, install); code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			isJUnit(t, tt.inputs["junit"], tt.failures)
		})
	}
}

// run runs the steps and returns the first exit code that is not 0.
func (a *ciAction) run(t *testing.T, inputs map[string]string, install bool) int {
	t.Helper()
	source, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	temp := t.TempDir()
	if !install {
		linkProgram(t, filepath.Join(temp, "nsbpf-bin"))
	}
	values := []string{"${{ github.action_path }}", source, "${{ runner.temp }}", temp}
	for name, in := range a.Inputs {
		value, given := inputs[name]
		if !given {
			value = in.Default
		}
		values = append(values, "${{ inputs."+name+" }}", value)
	}
	for name := range inputs {
		if _, known := a.Inputs[name]; !known {
			t.Fatalf("the action has no input %q", name)
		}
	}
	fill := strings.NewReplacer(values...)
	code := 0
	for _, step := range a.Runs.Steps {
		if step.Run == "" || step.Name == "Install nsbpf" && !install || code != 0 && !strings.HasPrefix(step.If, "always()") {
			continue
		}
		sh := exec.Command(step.Shell, "--noprofile", "--norc", "-eo", "pipefail", "-c", step.Run)
		sh.Dir, sh.Env = "../..", os.Environ()
		for k, v := range step.Env {
			v = fill.Replace(v)
			if strings.Contains(v, "${{") {
				t.Errorf("step %q: %s is %q", step.Name, k, v)
			}
			sh.Env = append(sh.Env, k+"="+v)
		}
		out, err := sh.CombinedOutput()
		t.Logf("%s\n%s", step.Name, out)
		var exit *exec.ExitError
		if errors.As(err, &exit) && code == 0 {
			code = exit.ExitCode()
		} else if err != nil && exit == nil {
			t.Fatal(err)
		}
	}
	return code
}

// linkProgram makes the program of the test appear in a folder.
func linkProgram(t *testing.T, bin string) {
	t.Helper()
	program, err := filepath.Abs(testenv.Tool(t, "nsbpf"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Mkdir(bin, 0o777), os.Symlink(program, filepath.Join(bin, "nsbpf"))); err != nil {
		t.Fatal(err)
	}
}

// isJUnit wants a document with those counts.
func isJUnit(t *testing.T, file, counts string) {
	t.Helper()
	text := readText(t, file)
	if err := xml.Unmarshal([]byte(text), new(struct {
		XMLName xml.Name `xml:"testsuites"`
	})); err != nil || !strings.Contains(text, counts) {
		t.Errorf("%v; want %s in\n%s", err, counts, text)
	}
}

// TestGitLab runs the script of the job of GitLab, in a folder that has the examples.
func TestGitLab(t *testing.T) {
	testenv.Root(t)
	leavesNothing(t)
	var ci map[string]struct {
		Image       string
		Script      []string
		AfterScript []string `yaml:"after_script"`
		Artifacts   struct {
			When    string
			Reports map[string]string
		}
	}
	readYAML(t, "../../examples/ci/gitlab-ci.yml", &ci)
	job := ci["network"]
	dir := t.TempDir()
	examples, err := filepath.Abs("../../examples")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(examples, filepath.Join(dir, "examples")); err != nil {
		t.Fatal(err)
	}
	for _, script := range [][]string{job.Script, job.AfterScript} {
		sh := exec.Command("bash", "-eo", "pipefail", "-c", strings.Join(script, "\n"))
		sh.Dir = dir
		if out, err := sh.CombinedOutput(); err != nil || len(script) == 0 {
			t.Errorf("%q: %v\n%s", script, err, out)
		}
	}
	isJUnit(t, filepath.Join(dir, job.Artifacts.Reports["junit"]), `tests="4" failures="0"`)
}

// TestCIExamples wants the examples of CI to stand in docs/ci.md as they are, and
// the workflow to give the action what it takes.
func TestCIExamples(t *testing.T) {
	doc := readText(t, "../../docs/ci.md")
	for _, file := range []string{"network.yaml", "firewall.yaml", "github.yml", "gitlab-ci.yml"} {
		text := readText(t, "../../examples/ci/"+file)
		if !strings.Contains(doc, "```yaml\n"+text+"```\n") {
			t.Errorf("docs/ci.md does not have examples/ci/%s as it is", file)
		}
	}
	var action ciAction
	readYAML(t, "../../action.yml", &action)
	var flow struct {
		On   []string
		Jobs map[string]struct {
			RunsOn string `yaml:"runs-on"`
			Steps  []ciStep
		}
	}
	readYAML(t, "../../examples/ci/github.yml", &flow)
	for _, step := range flow.Jobs["network"].Steps {
		for input := range step.With {
			if _, known := action.Inputs[input]; !known {
				t.Errorf("the action has no input %q", input)
			}
		}
		for input, in := range action.Inputs {
			if _, given := step.With[input]; in.Required && !given && strings.HasPrefix(step.Uses, "nsbpf/") {
				t.Errorf("the workflow does not give the input %q", input)
			}
			if !strings.Contains(doc, "| `"+input+"` |") {
				t.Errorf("docs/ci.md does not speak of the input %q", input)
			}
		}
	}
}

// TestCIBlocks runs the console blocks of docs/ci.md.
func TestCIBlocks(t *testing.T) {
	testenv.Root(t)
	testenv.Tool(t, "nft")
	runBlocks(t, "docs/ci.md")
}
