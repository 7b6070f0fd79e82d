// Package configuration reads KubeletConfiguration files (kubelet.config.k8s.io/v1beta1) and says which flags of this daemon they set.
//
// main calls it when --config or --config-dir is given; the flags stay the one place of defaults and of what a value means. table.go has a line a
// field of the type. What always holds: a file is read strictly, so that a misspelt word is an error with its file and line; a field is obeyed by a flag,
// or refused when it asks for what this kubelet does not do, or known to mean nothing here; a flag on the command line wins over every file
// (https://kubernetes.io/docs/tasks/administer-cluster/kubelet-config-file/).
package configuration

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// The type that files must say they are.
const (
	APIVersion = "kubelet.config.k8s.io/v1beta1"
	Kind       = "KubeletConfiguration"
)

// Setting is a flag that a file sets, and where it does so. Field is the path in the file.
type Setting struct {
	Flag, Text   string
	Field, Where string
}

// Files is what the files say, merged. The zero Files says nothing.
type Files struct{ said map[string]given }

// given is one value with its place.
type given struct {
	value value
	where string
}

// Read reads the file, if one is named, then those in the folder whose name ends in .conf, in the order of their paths: single values and lists of a
// later one replace those of an earlier one, keys of maps are merged
// (https://kubernetes.io/docs/reference/node/kubelet-config-directory-merging/). The error says all that is wrong in the first wrong file.
func Read(file, dir string) (Files, error) {
	var paths []string
	if file != "" {
		paths = append(paths, file)
	}
	if dir != "" {
		err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err == nil && !e.IsDir() && filepath.Ext(path) == ".conf" {
				paths = append(paths, path)
			}
			return err
		})
		if err != nil {
			return Files{}, fmt.Errorf("reading the folder of configurations: %w", err)
		}
	}
	f := Files{said: map[string]given{}}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return Files{}, fmt.Errorf("reading configuration: %w", err)
		}
		if err := f.add(path, text); err != nil {
			return Files{}, err
		}
	}
	return f, nil
}

// add merges one file's text.
func (f Files) add(path string, text []byte) error {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if len(doc.Content) == 0 {
		return fmt.Errorf("%s: the file is empty", path)
	}
	r := reader{file: path, said: map[string]given{}, types: map[string]string{}}
	r.object(doc.Content[0], "")
	for key, want := range map[string]string{"apiVersion": APIVersion, "kind": Kind} {
		if got := r.types[key]; got != want {
			r.wrong(1, "%s: Invalid value: %q: must be %s", key, got, want)
		}
	}
	if len(r.failed) > 0 {
		return errors.Join(r.failed...)
	}
	for name, g := range r.said {
		if before, ok := f.said[name]; ok {
			g.value = before.value.under(g.value)
		}
		f.said[name] = g
	}
	return nil
}

// reader goes through one file.
type reader struct {
	file   string
	said   map[string]given
	types  map[string]string // apiVersion and kind
	failed []error
}

func (r *reader) wrong(line int, format string, args ...any) {
	r.failed = append(r.failed, fmt.Errorf("%s:%d: %s", r.file, line, fmt.Sprintf(format, args...)))
}

// object reads the fields below a path.
func (r *reader) object(n *yaml.Node, at string) {
	n = resolved(n)
	if n.Kind != yaml.MappingNode {
		r.wrong(n.Line, "%s: Invalid value: must be an object", strings.TrimSuffix(at, "."))
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, v := n.Content[i], resolved(n.Content[i+1])
		name := at + key.Value
		if seen[key.Value] {
			r.wrong(key.Line, "strict decoding error: duplicate field %q", name)
			continue
		}
		seen[key.Value] = true
		if at == "" && (key.Value == "apiVersion" || key.Value == "kind") {
			r.types[key.Value] = v.Value
			continue
		}
		f, known := table[name]
		switch {
		case v.Tag == "!!null": // as if it did not stand there
			if !known && !parents[name] {
				r.wrong(key.Line, "strict decoding error: unknown field %q", name)
			}
		case parents[name]:
			r.object(v, name+".")
		case !known:
			r.wrong(key.Line, "strict decoding error: unknown field %q", name)
		default:
			got, err := f.kind.read(v)
			if err == nil && f.kind == file && got.text != "" && !filepath.IsAbs(got.text) {
				got.text = filepath.Join(filepath.Dir(r.file), got.text) // as upstream: beside the file that names it
			}
			if err == nil {
				err = f.check(got)
			}
			if err != nil {
				r.wrong(v.Line, "%s: %v", name, err)
				continue
			}
			r.said[name] = given{value: got, where: fmt.Sprintf("%s:%d", r.file, v.Line)}
		}
	}
}

func resolved(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// Settings are the flags that the files set, in the order of their fields' names.
func (f Files) Settings() []Setting {
	var out []Setting
	for _, name := range slices.Sorted(maps.Keys(f.said)) {
		g, row := f.said[name], table[name]
		if row.flag == "" {
			continue
		}
		v := g.value
		if name == "evictionHard" && f.said["mergeDefaultEvictionSettings"].value.text == "true" {
			v = evictionDefaults.under(v)
		}
		out = append(out, Setting{Flag: row.flag, Text: row.text(v), Field: name, Where: g.where})
	}
	return out
}

// evictionDefaults are those that mergeDefaultEvictionSettings is about.
var evictionDefaults = value{pairs: map[string]string{
	"memory.available": "100Mi", "nodefs.available": "10%", "nodefs.inodesFree": "5%", "imagefs.available": "15%", "imagefs.inodesFree": "5%",
}}
