package containers_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"pilothouse.dev/kubelet/containers"
)

// TestLeftoversThatStay: what cannot be removed does not keep the kubelet from starting, nor other leftovers from going.
func TestLeftoversThatStay(t *testing.T) {
	n := newNode(t)
	s := n.sandbox(containers.SandboxSpec{})
	id := n.start(s, containers.ContainerSpec{Args: []string{"sleep", "1000"}})
	n.close()
	stays, goes := filepath.Join(n.daemon.Dir, "sandboxes", "a"), filepath.Join(n.daemon.Dir, "sandboxes", "b")
	if err := errors.Join(os.MkdirAll(filepath.Join(stays, "not", "ours"), 0o755), os.MkdirAll(goes, 0o755)); err != nil {
		t.Fatal(err)
	}
	n.open()
	if _, err := os.Stat(goes); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what could be removed is there: %v", err)
	}
	if _, err := os.Stat(filepath.Join(stays, "not", "ours")); err != nil {
		t.Errorf("what is not ours was touched: %v", err)
	}
	if out, _ := n.exec(id, "echo", "alive"); out != "alive\n" {
		t.Errorf("the container: %q", out)
	}
}
