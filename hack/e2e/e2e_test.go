package e2e

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"pilothouse.dev/hack/e2e/target"
)

// world is the cluster under test.
type world struct {
	bin        string // folder of the programs
	root       string // of the project
	name       string // of the local cluster, empty if it is not ours
	kubeconfig string
}

func TestMain(m *testing.M) {
	testscript.Main(suite{m}, map[string]func(){repeater: repeat})
}

// suite is all tests with the cluster around them.
type suite struct{ m *testing.M }

// Run makes the cluster if there must be one, and takes down what it made.
func (s suite) Run() int {
	o := target.Flags()
	flag.Parse()
	c, down, err := target.Open(o, "e2e")
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer down()
	if c == nil {
		fmt.Println("e2e: no cluster to test: give -cluster=namespaces or -kubeconfig=FILE (make e2e does)")
		return 0
	}
	// kubectl's discovery cache, shared by all scripts of this run.
	cache, err := os.MkdirTemp("", "e2e-kubecache-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer os.RemoveAll(cache)
	os.Setenv("KUBECACHEDIR", cache)
	// The scripts' commands find it in the environment, as a reader's shell would have it.
	os.Setenv("E2E_BIN", c.Bin)
	os.Setenv("E2E_ROOT", c.Root)
	os.Setenv("E2E_CLUSTER", c.Name)
	os.Setenv("KUBECONFIG", c.Kubeconfig)
	return s.m.Run()
}

func TestKubectl(t *testing.T)  { scripts(t, "kubectl", true) }
func TestWorkload(t *testing.T) { scripts(t, "workload", true) }
func TestFault(t *testing.T)    { scripts(t, "fault", false) }
func TestCluster(t *testing.T)  { scripts(t, "cluster", false) }

// scripts runs the files of a folder, side by side or one after another. Those of fault and cluster need a cluster that can be
// broken, which is ours only.
func scripts(t *testing.T, folder string, together bool) {
	w := &world{
		bin: os.Getenv("E2E_BIN"), root: os.Getenv("E2E_ROOT"), name: os.Getenv("E2E_CLUSTER"), kubeconfig: os.Getenv("KUBECONFIG"),
	}
	if w.bin == "" {
		t.Skip("no cluster was given")
	}
	if w.name == "" && !together {
		t.Skip("a foreign cluster is not broken on purpose")
	}
	p := testscript.Params{
		Setup:               w.setup,
		Cmds:                commands(),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	}
	if together {
		p.Dir, p.WorkdirRoot = filepath.Join("testdata", folder), t.TempDir()
		testscript.Run(t, p)
		return
	}
	files, err := filepath.Glob(filepath.Join("testdata", folder, "*.txtar"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts in %s (%v)", folder, err)
	}
	for _, file := range files {
		// testscript lets its scripts run side by side; a group of its own for each makes them wait.
		t.Run("group", func(t *testing.T) {
			p.Files, p.WorkdirRoot = []string{file}, t.TempDir()
			testscript.Run(t, p)
		})
	}
}

// setup gives a script its namespace and a kubeconfig whose context is in it.
func (w *world) setup(env *testscript.Env) error {
	ns := namespaceOf(env.WorkDir)
	kubeconfig := filepath.Join(env.WorkDir, "kubeconfig")
	env.Vars = append(env.Vars,
		"PATH="+w.bin+string(os.PathListSeparator)+os.Getenv("PATH"),
		"HOME="+os.Getenv("HOME"), // for the caches of go, where a script builds
		"NS="+ns,
		"ROOT="+w.root,
		"CLUSTER="+w.name,
		"CLUSTERDIR="+filepath.Join(w.root, ".cluster", w.name),
		"KUBECONFIG="+kubeconfig,
		"KUBECACHEDIR="+os.Getenv("KUBECACHEDIR"),
	)
	kubectl := func(args ...string) ([]byte, error) {
		cmd := exec.Command(filepath.Join(w.bin, "kubectl"), args...)
		cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, out)
		}
		return out, nil
	}
	env.Defer(func() { w.sweep(env.WorkDir) })
	flat, err := exec.Command(filepath.Join(w.bin, "kubectl"), "--kubeconfig", w.kubeconfig, "config", "view", "--raw", "--flatten").Output()
	if err != nil {
		return fmt.Errorf("reading %s: %w", w.kubeconfig, err)
	}
	if err := os.WriteFile(kubeconfig, flat, 0o600); err != nil {
		return fmt.Errorf("writing the script's kubeconfig: %w", err)
	}
	if _, err := kubectl("create", "namespace", ns); err != nil {
		return err
	}
	env.Defer(func() {
		// Gone or going: the next script does not wait for it.
		if _, err := kubectl("delete", "namespace", ns, "--wait=false", "--ignore-not-found"); err != nil {
			fmt.Fprintln(os.Stderr, "e2e: deleting namespace:", err)
		}
	})
	if _, err := kubectl("config", "set-context", "--current", "--namespace", ns); err != nil {
		return err
	}
	// Pods wait for it; so does whoever creates one by hand.
	_, err = kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=30s")
	return err
}

// sweep takes down the clusters that a script has started and, because it failed, not ended: those that keep their things in
// its folder, and the one of the README.
func (w *world) sweep(workDir string) {
	records, err := filepath.Glob("/run/pilothouse/*/state.json")
	if err != nil {
		return
	}
	for _, record := range records {
		var s struct{ Name, Dir string }
		data, err := os.ReadFile(record)
		if err == nil {
			err = json.Unmarshal(data, &s)
		}
		if err != nil || !strings.HasPrefix(s.Dir, workDir+"/") && s.Dir != filepath.Join(w.root, ".cluster", "readme") {
			continue
		}
		if out, err := exec.Command(filepath.Join(w.bin, "cluster"), "-name", s.Name, "-dir", s.Dir, "down").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "e2e: taking down cluster %s: %v: %s", s.Name, err, out)
		}
	}
}

// namespaceOf makes a namespace's name from a script's, which testscript has put into its folder's.
func namespaceOf(workDir string) string {
	name := strings.TrimPrefix(filepath.Base(workDir), "script-")
	return "e2e-" + strings.ToLower(strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '-'
	}, name), "-"))
}
