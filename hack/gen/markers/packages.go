package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// module is one that holds API types, and where in it they are: a folder, or a pattern of folders.
type module struct {
	path    string
	folders []string
}

var modules = []module{
	{"k8s.io/api", []string{"*/v*"}},
	{"k8s.io/apiextensions-apiserver", []string{"pkg/apis/apiextensions/v1"}},
	{"k8s.io/apimachinery", []string{"pkg/api/resource", "pkg/apis/meta/v1", "pkg/runtime", "pkg/util/intstr", "pkg/version"}},
	{"k8s.io/kube-aggregator", []string{"pkg/apis/apiregistration/v1"}},
}

// unserved are the groups whose types only travel between servers.
var unserved = map[string]bool{"admission": true, "apidiscovery": true, "imagepolicy": true}

var stable = regexp.MustCompile(`^v[0-9]+$`)

// pkg is one parsed package.
type pkg struct {
	path   string // k8s.io/api/core/v1
	fset   *token.FileSet
	files  []*ast.File
	others map[string]*pkg // every package that was loaded, by its path
}

// load finds the modules as the go.mod above dir names them, and parses the packages with API types. versions says which
// modules they were, for the head of the file.
func load(dir string) (packages []*pkg, versions []string, err error) {
	others := map[string]*pkg{}
	for _, m := range modules {
		version, root, err := find(dir, m.path)
		if err != nil {
			return nil, nil, err
		}
		versions = append(versions, m.path+" "+version)
		for _, pattern := range m.folders {
			folders, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(pattern)))
			if err != nil {
				return nil, nil, err
			}
			if len(folders) == 0 {
				return nil, nil, fmt.Errorf("module %s has no folder %s", m.path, pattern)
			}
			for _, folder := range folders {
				rel, err := filepath.Rel(root, folder)
				if err != nil {
					return nil, nil, err
				}
				rel = filepath.ToSlash(rel)
				if strings.Contains(pattern, "*") && (!stable.MatchString(path.Base(rel)) || unserved[path.Dir(rel)]) {
					continue
				}
				p, err := parse(path.Join(m.path, rel), folder)
				if err != nil {
					return nil, nil, err
				}
				p.others, others[p.path] = others, p
				packages = append(packages, p)
			}
		}
	}
	return packages, versions, nil
}

// find asks go where a module is. The workspace is left out: the API server's own requirements count.
func find(dir, module string) (version, root string, err error) {
	cmd := exec.Command("go", "list", "-m", "-f", "{{.Version}} {{.Dir}}", module)
	cmd.Dir, cmd.Env, cmd.Stderr = dir, append(os.Environ(), "GOWORK=off"), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", "", fmt.Errorf("asking for module %s: %w", module, err)
	}
	version, root, _ = strings.Cut(strings.TrimSpace(string(out)), " ")
	if root == "" {
		return "", "", fmt.Errorf("module %s %s is not on this machine: run go mod download %s", module, version, module)
	}
	return version, root, nil
}

// parse reads a package's own files: not its tests and not what was generated from them.
func parse(importPath, folder string) (*pkg, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	p := &pkg{path: importPath, fset: token.NewFileSet()}
	for _, e := range entries {
		n := e.Name()
		if !strings.HasSuffix(n, ".go") || strings.HasSuffix(n, "_test.go") || strings.HasPrefix(n, "zz_") || strings.HasSuffix(n, ".pb.go") {
			continue
		}
		f, err := parser.ParseFile(p.fset, filepath.Join(folder, n), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		p.files = append(p.files, f)
	}
	return p, nil
}
