// Package target finds or makes the cluster that end-to-end tests are run against: one that bin/cluster starts on this machine, or
// one that somebody else has and gives a kubeconfig of. The packages of tests beside it call it once, before their first test.
package target

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// Target is the cluster under test.
type Target struct {
	Root       string // of the project
	Bin        string // folder of the programs
	Name       string // of the local cluster, empty if it is not ours
	Kubeconfig string
}

// Open gives the cluster that o asks for, nil if it asks for none. A local one that o does not name gets the name other, and down,
// never nil, takes it away again; any other cluster down leaves as it is.
func Open(o *Options, other string) (t *Target, down func(), err error) {
	_, self, _, _ := runtime.Caller(0)
	t = &Target{Root: filepath.Join(filepath.Dir(self), "..", "..", "..")}
	t.Bin = filepath.Join(t.Root, "bin")
	down = func() {}
	switch {
	case o.Kubeconfig != "":
		t.Kubeconfig, err = filepath.Abs(o.Kubeconfig)
		return t, down, err
	case o.Cluster == "":
		return nil, down, nil
	case o.Cluster != "namespaces":
		return nil, nil, fmt.Errorf("-cluster=%s: only namespaces is known", o.Cluster)
	}
	t.Name = o.Name
	if t.Name == "" {
		t.Name = other
		down = func() {
			if err := t.cluster("down"); err != nil {
				fmt.Fprintln(os.Stderr, "taking the cluster down:", err)
			}
		}
	}
	if err := t.cluster("up", "-nodes", "3"); err != nil {
		t.tell()
		down()
		return nil, nil, fmt.Errorf("bringing the cluster up: %w", err)
	}
	t.Kubeconfig = filepath.Join(t.Root, ".cluster", t.Name, "kubeconfig")
	return t, down, nil
}

func (t *Target) cluster(args ...string) error {
	cmd := exec.Command(filepath.Join(t.Bin, "cluster"), append([]string{"-name", t.Name}, args...)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = t.Root, os.Stdout, os.Stderr
	return cmd.Run()
}

// tell prints the end of each daemon's log, for whoever reads why a cluster did not come up.
func (t *Target) tell() {
	logs, err := filepath.Glob(filepath.Join(t.Root, ".cluster", t.Name, "logs", "*.log"))
	if err != nil {
		return
	}
	for _, log := range logs {
		out, err := exec.Command("tail", "-n", "15", log).Output()
		if err == nil {
			fmt.Printf("--- %s\n%s", filepath.Base(log), out)
		}
	}
}
