package lint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const modulePrefix = "pilothouse.dev/"

// root is the checkout, seen from this folder.
const root = "../.."

// source is one Go file of ours.
type source struct {
	path    string // from the root: kubelet/pods/machine.go
	room    string // kubelet/pods; kubelet for the root of the module
	module  string // kubelet
	test    bool
	lines   int
	syntax  *ast.File
	imports []string
}

func (s source) name() string { return path.Base(s.path) }

// generated tells whether a machine wrote the file.
func (s source) generated() bool { return strings.HasPrefix(s.name(), "zz_") }

// at is where something stands, for people.
func (s source) at(p token.Pos) string {
	return s.path + ":" + strconv.Itoa(positions.Position(p).Line)
}

var positions = token.NewFileSet()

// files lists the checkout: what git tracks or does not ignore, and is there.
var files = sync.OnceValues(func() ([]string, error) {
	out, err := exec.Command("git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		return nil, err
	}
	var all []string
	for _, f := range strings.Split(strings.TrimRight(string(out), "\x00"), "\x00") {
		if info, err := os.Lstat(filepath.Join(root, f)); err == nil && info.Mode().IsRegular() {
			all = append(all, f)
		}
	}
	return all, nil
})

// sources parses every Go file of our seven modules. Foreign programs that we
// only build (hack/tools) are not ours.
var sources = sync.OnceValues(func() ([]source, error) {
	all, err := files()
	if err != nil {
		return nil, err
	}
	var out []source
	for _, f := range all {
		if !strings.HasSuffix(f, ".go") || strings.HasPrefix(f, "hack/tools/") || strings.Contains(f, "/testdata/") || !strings.Contains(f, "/") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(root, f))
		if err != nil {
			return nil, err
		}
		syntax, err := parser.ParseFile(positions, f, text, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		s := source{path: f, room: path.Dir(f), test: strings.HasSuffix(f, "_test.go"), lines: strings.Count(string(text), "\n"), syntax: syntax}
		s.module, _, _ = strings.Cut(f, "/")
		for _, i := range syntax.Imports {
			p, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return nil, err
			}
			s.imports = append(s.imports, p)
		}
		out = append(out, s)
	}
	return out, nil
})

// eachSource runs a check on every Go file of ours.
func eachSource(t *testing.T, check func(s source)) {
	t.Helper()
	all, err := sources()
	if err != nil {
		t.Fatalf("reading the checkout: %v", err)
	}
	if len(all) == 0 {
		t.Fatal("reading the checkout: no Go files")
	}
	for _, s := range all {
		check(s)
	}
}

// within tells whether an import path is a package or lies below it.
func within(p, of string) bool { return p == of || strings.HasPrefix(p, of+"/") }
