package netns

import (
	"net"
	"os"
	"path/filepath"
	"testing"
)

func TestNamespace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("this test makes a network namespace and needs root")
	}
	path := filepath.Join(t.TempDir(), "deep", "ns")
	if Exists(path) {
		t.Error("a namespace exists before it was made")
	}
	for range 2 { // again is no error and changes nothing
		if err := Create(path); err != nil {
			t.Fatal(err)
		}
	}
	count := func() int {
		ifaces, err := net.Interfaces()
		if err != nil {
			t.Fatal(err)
		}
		return len(ifaces)
	}
	here := count()
	if err := Do(path, func() error {
		if n := count(); n != 1 {
			t.Errorf("a new namespace has %d interfaces, want lo alone", n)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != here {
		t.Errorf("after Do we see %d interfaces, before %d: we are elsewhere", n, here)
	}
	for range 2 {
		if err := Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if Exists(path) {
		t.Error("the namespace exists after it was removed")
	}
}
