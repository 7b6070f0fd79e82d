package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestFolders: what pods have on disk is closed to other users of the node, also where an older kubelet left it open.
func TestFolders(t *testing.T) {
	root := t.TempDir()
	c := Config{RootDir: filepath.Join(root, "kubelet"), NetnsDir: filepath.Join(root, "netns")}
	if err := os.MkdirAll(filepath.Join(c.RootDir, "pods"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := c.folders(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(c.RootDir, "pods"))
	if err != nil || info.Mode().Perm() != 0o750 {
		t.Errorf("the folder of pods is %v, %v", info.Mode(), err)
	}
	if c.PodLogs != filepath.Join(c.RootDir, "logs") {
		t.Errorf("logs go to %s", c.PodLogs)
	}
}
