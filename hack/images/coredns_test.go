package main

import (
	"os"
	"strings"
	"testing"
)

// A Go program of some modules, as CoreDNS is: this test itself.
func TestModuleVersion(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if v, err := moduleVersion(self, "github.com/google/go-containerregistry"); err != nil || !strings.HasPrefix(v, "v0.") {
		t.Errorf("got %q, %v, want a version of v0", v, err)
	}
	for name, tt := range map[string]struct{ program, module, want string }{
		"a module that it is not of": {self, "example.com/other", "was not built from example.com/other"},
		"a program that is not Go's": {"/bin/busybox", corednsModule, "reading what /bin/busybox was built from"},
	} {
		if v, err := moduleVersion(tt.program, tt.module); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %q, %v, want an error with %q", name, v, err, tt.want)
		}
	}
}
