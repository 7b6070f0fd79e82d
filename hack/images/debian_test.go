package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func TestLibraryPackages(t *testing.T) {
	tests := []struct {
		name, depends string
		want          []string
	}{
		{"versions are left to the archive", "libc6 (>= 2.34), zlib1g (>= 1:1.1.4)\n", []string{"libc6", "zlib1g"}},
		{"of alternatives the first", "libssl3t64 (>= 3.0) | libssl3, libfoo1|libbar1", []string{"libssl3t64", "libfoo1"}},
		{"an architecture is no part of the name", "libgcc-s1:any (>= 4)", []string{"libgcc-s1"}},
		{"programs and scripts are not taken along", "adduser, lsb-base (>= 3.2-14), perl:any, iproute2", nil},
		{"nothing", "\n", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := libraryPackages(tt.depends); !slices.Equal(got, tt.want) {
				t.Errorf("libraryPackages(%q) = %q, want %q", tt.depends, got, tt.want)
			}
		})
	}
}

// archiveOf builds packages with the tools that build real ones. A program needs libfar by way of libnear; the loader of the C library
// is there as older packages have it, with a link to where it would be installed, and liblonely is needed by nothing.
func archiveOf(t *testing.T) (fetch func(folder string, names []string) error, loader string) {
	t.Helper()
	dir := t.TempDir()
	run := func(name string, args ...string) {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
		}
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	control := func(name, depends string) {
		t.Helper()
		write(name+"/DEBIAN/control", fmt.Sprintf(
			"Package: %s\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.com>\nDescription: test\n%s", name, depends))
	}
	control("prog", "Depends: debconf, libnear1 (>= 1) | libother1, liblonely1\nPre-Depends: libc6\n")
	control("libnear1", "Depends: libfar1, libc6\n")
	control("libfar1", "")
	control("liblonely1", "")
	control("libc6", "")
	for _, sub := range []string{"prog/usr/bin", "libnear1/usr/lib/any", "libfar1/lib/any", "liblonely1/usr/lib", "libc6/lib/any", "libc6/lib64"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write("far.c", "int far(void) { return 7; }\n")
	write("near.c", "int far(void); int near(void) { return far(); }\n")
	write("prog.c", "int near(void); void _start(void) { near(); }\n")
	write("void.c", "int nothing;\n")
	shared := []string{"-shared", "-nostdlib", "-fno-stack-protector"}
	run("gcc", append(shared, "far.c", "-Wl,-soname,libfar.so.1", "-o", "libfar1/lib/any/libfar.so.1.2.3")...)
	run("ln", "-s", "libfar.so.1.2.3", "libfar1/lib/any/libfar.so.1")
	run("gcc", append(shared, "near.c", "-Wl,-soname,libnear.so.1", "libfar1/lib/any/libfar.so.1", "-o", "libnear1/usr/lib/any/libnear.so.1")...)
	run("gcc", append(shared, "void.c", "-Wl,-soname,liblonely.so.1", "-o", "liblonely1/usr/lib/liblonely.so.1")...)
	run("gcc", append(shared, "void.c", "-Wl,-soname,ld-test.so.2", "-o", "libc6/lib/any/ld-test.so.2")...)
	run("ln", "-s", "/lib/any/ld-test.so.2", "libc6/lib64/ld-test.so.2")
	run("gcc", "-nostdlib", "-fno-stack-protector", "-pie", "prog.c", "libnear1/usr/lib/any/libnear.so.1", "libc6/lib/any/ld-test.so.2", "-Wl,--no-as-needed",
		"-Wl,--unresolved-symbols=ignore-in-shared-libs", "-Wl,--dynamic-linker=/lib64/ld-test.so.2", "-o", "prog/usr/bin/real")
	run("ln", "-s", "real", "prog/usr/bin/prog")
	return func(folder string, names []string) error {
		for _, name := range names {
			if out, err := exec.Command("dpkg-deb", "--root-owner-group", "-b", filepath.Join(dir, name), folder).CombinedOutput(); err != nil {
				return fmt.Errorf("the archive has no %s: %w: %s", name, err, out)
			}
		}
		return nil
	}, "lib64/ld-test.so.2"
}

func TestPrograms(t *testing.T) {
	fetch, loader := archiveOf(t)
	var asked []string
	p := newPackages(t.TempDir(), func(folder string, names []string) error {
		asked = append(asked, names...)
		return fetch(folder, names)
	})
	if err := p.add("prog"); err != nil {
		t.Fatal(err)
	}
	files, err := p.programs("usr/bin/prog")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, f.name)
		if !bytes.HasPrefix(f.data, []byte("\x7fELF")) || f.mode != 0o755 {
			t.Errorf("%s has mode %o and %d bytes, want a program", f.name, f.mode, len(f.data))
		}
	}
	if want := []string{"lib/libfar.so.1", "lib/libnear.so.1", loader, "usr/bin/prog"}; !slices.Equal(names, want) {
		t.Errorf("the image has %q, want %q", names, want)
	}
	// Each package once, and none that is no library's.
	slices.Sort(asked)
	if want := []string{"libc6", "libfar1", "liblonely1", "libnear1", "prog"}; !slices.Equal(asked, want) {
		t.Errorf("fetched %q, want %q", asked, want)
	}
}

func TestProgramsRefuse(t *testing.T) {
	fetch, _ := archiveOf(t)
	away := errors.New("the archive is away")
	tests := []struct {
		name, program string
		lacks         string // a package that the archive hasn't
		want          string
	}{
		{"the archive has lost a package", "usr/bin/prog", "libfar1", "the archive is away"},
		{"a program that is not there", "usr/bin/none", "", "usr/bin/none"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPackages(t.TempDir(), func(folder string, names []string) error {
				if slices.Contains(names, tt.lacks) {
					return away
				}
				return fetch(folder, names)
			})
			if err := p.add("prog"); err != nil {
				t.Fatal(err)
			}
			if _, err := p.programs(tt.program); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("programs: %v, want an error with %q", err, tt.want)
			}
		})
	}

	t.Run("no package says that it has the library", func(t *testing.T) {
		p := newPackages(t.TempDir(), fetch)
		if err := p.add("prog"); err != nil {
			t.Fatal(err)
		}
		p.near = []string{"libc6"}
		if _, err := p.programs("usr/bin/prog"); err == nil || !strings.Contains(err.Error(), "no package has libnear.so.1, which usr/bin/prog needs") {
			t.Errorf("programs: %v, want one that names the library", err)
		}
	})
}

func TestLayersAreEqual(t *testing.T) {
	fetch, _ := archiveOf(t)
	build := func(also ...string) v1.Hash {
		p := newPackages(t.TempDir(), fetch)
		if err := p.add(append(also, "prog")...); err != nil {
			t.Fatal(err)
		}
		files, err := p.programs("usr/bin/prog")
		if err != nil {
			t.Fatal(err)
		}
		img, err := image(inOrder(append(withUser("prog", 7), files...)), v1.Config{User: "7:7"})
		if err != nil {
			t.Fatal(err)
		}
		digest, err := img.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return digest
	}
	if a, b := build(), build("libfar1"); a != b {
		t.Errorf("the same packages, fetched in another order, give %s and %s", a, b)
	}
}

func TestInOrder(t *testing.T) {
	var got []string
	for _, f := range inOrder([]file{
		{name: "b/c/d", data: []byte("x")},
		{name: "data/", mode: 0o700, owner: 5},
		{name: "a", link: "b"},
	}) {
		got = append(got, fmt.Sprintf("%s %o %d", f.name, f.mode, f.owner))
	}
	if want := []string{"a 0 0", "b/ 755 0", "b/c/ 755 0", "b/c/d 0 0", "data/ 700 5"}; !slices.Equal(got, want) {
		t.Errorf("inOrder: %q, want %q", got, want)
	}
}

func TestComplaints(t *testing.T) {
	tests := []struct{ name, out, want string }{
		{"what went wrong", "Get:1 a\nErr:2 b\n  403\nE: Failed to fetch b\n", "  E: Failed to fetch b"},
		{"all, when it says nothing of the kind", "killed\n", "killed\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := complaints(tt.out); got != tt.want {
				t.Errorf("complaints(%q) = %q, want %q", tt.out, got, tt.want)
			}
		})
	}
}
