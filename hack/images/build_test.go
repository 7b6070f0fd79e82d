package main

import (
	"archive/tar"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

func TestBusybox(t *testing.T) {
	img, err := busybox("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]*tar.Header{}
	files := mutate.Extract(img)
	defer files.Close()
	for r := tar.NewReader(files); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		found[strings.TrimSuffix(h.Name, "/")] = h
	}
	for name, want := range map[string]struct {
		kind byte
		mode int64
	}{
		"bin/busybox": {tar.TypeReg, 0o755},
		"bin/sh":      {tar.TypeSymlink, 0o777},
		"bin/wget":    {tar.TypeSymlink, 0o777},
		"etc/passwd":  {tar.TypeReg, 0o644},
		"tmp":         {tar.TypeDir, 0o1777},
	} {
		if h := found[name]; h == nil || h.Typeflag != want.kind || h.Mode != want.mode {
			t.Errorf("%s is %+v, want type %c mode %o", name, h, want.kind, want.mode)
		}
	}
}

func TestStaticRefuses(t *testing.T) {
	tests := []struct{ name, program, want string }{
		{"a program that needs libraries", "/bin/ls", "libc.so"},
		{"no program", "/etc/passwd", "/etc/passwd"},
		{"nothing", "/no/such/program", "prereqs"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := static(tt.program); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("static(%s): %v, want an error with %q", tt.program, err, tt.want)
			}
		})
	}
}
