package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/token"
	"slices"
	"strconv"
	"strings"
)

// generate makes the text: of each package its types, of each type its fields, and only those of which something is said.
func generate(dir string) ([]byte, error) {
	packages, versions, err := load(dir)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Made by hack/gen/markers (make generate) from %s.\n", strings.Join(versions, ", "))
	b.WriteString("# package PATH, then its types, each followed by its fields by their JSON names; see parse.go.\n")
	for _, p := range packages {
		types, err := render(p)
		if err != nil {
			return nil, fmt.Errorf("package %s: %w", p.path, err)
		}
		if len(types) == 0 {
			continue
		}
		fmt.Fprintf(&b, "package %s\n", p.path)
		for _, t := range types {
			b.WriteString(t)
		}
	}
	return b.Bytes(), nil
}

// render is the lines of each type of a package of which there is anything to say, by name.
func render(p *pkg) ([]string, error) {
	c := constantsOf(p)
	var out []string
	for _, f := range p.files {
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.TYPE {
				continue
			}
			for _, s := range g.Specs {
				spec := s.(*ast.TypeSpec)
				if !spec.Name.IsExported() {
					continue
				}
				text, err := renderType(c, spec, read(docOf(p.fset, f, g, spec)...))
				if err != nil {
					return nil, err
				}
				if text != "" {
					out = append(out, text)
				}
			}
		}
	}
	slices.Sort(out)
	return out, nil
}

func renderType(c constants, spec *ast.TypeSpec, t tags) (string, error) {
	words := merging(t)
	if id, ok := spec.Type.(*ast.Ident); ok && id.Name == "string" && t.has("enum") {
		values, err := c.enum(spec.Name.Name)
		if err != nil {
			return "", err
		}
		if len(values) > 0 {
			words = append(words, "enum="+strings.Join(values, ","))
		}
	}
	var fields []string
	if s, ok := spec.Type.(*ast.StructType); ok {
		for _, f := range s.Fields.List {
			line, err := renderField(c, f)
			if err != nil {
				return "", fmt.Errorf("type %s: %w", spec.Name.Name, err)
			}
			if line != "" {
				fields = append(fields, line)
			}
		}
	}
	if len(words) == 0 && len(fields) == 0 {
		return "", nil
	}
	slices.Sort(fields)
	return strings.Join(append([]string{spec.Name.Name}, words...), " ") + "\n" + strings.Join(fields, ""), nil
}

func renderField(c constants, f *ast.Field) (string, error) {
	name, empty := jsonName(f)
	if name == "" {
		return "", nil
	}
	t := read(f.Doc)
	words := merging(t)
	switch {
	case t.has("k8s:listType") && !t.has("listType"):
		return "", fmt.Errorf("field %s has +k8s:listType without +listType: read both", name)
	case t.has("required") && t.has("optional"):
		return "", fmt.Errorf("field %s is said to be both required and optional", name)
	case t.has("required") && empty:
		words = append(words, "required")
	case t.has("optional") && !empty:
		words = append(words, "optional")
	}
	if t.has("default") {
		v, err := value(c, t.first("default"))
		if err != nil {
			return "", fmt.Errorf("field %s: %w", name, err)
		}
		words = append(words, "default="+v)
	}
	if len(words) == 0 {
		return "", nil
	}
	return "\t" + name + " " + strings.Join(words, " ") + "\n", nil
}

// merging is what is said of how a list, map or struct merges.
func merging(t tags) []string {
	var words []string
	if v := t.first("listType"); v != "" {
		var keys []string
		for _, k := range t["listMapKey"] {
			if k := unquote(k); !slices.Contains(keys, k) {
				keys = append(keys, k)
			}
		}
		if len(keys) > 0 {
			v += ":" + strings.Join(keys, ",")
		}
		words = append(words, "list="+v)
	}
	if v := t.first("mapType"); v != "" {
		words = append(words, "map="+v)
	}
	if v := t.first("structType"); v != "" {
		words = append(words, "struct="+v)
	}
	return words
}

func unquote(s string) string {
	s = strings.TrimSpace(s)
	if u, err := strconv.Unquote(s); err == nil {
		return u
	}
	return s
}

// value is a default as JSON: the marker's own text, or the constant that it names.
func value(c constants, text string) (string, error) {
	if name, ok := strings.CutPrefix(text, "ref("); ok {
		s, ok := c.named(strings.TrimSuffix(name, ")"))
		if !ok {
			return "", fmt.Errorf("default %s names no string constant of the package", text)
		}
		text = strconv.Quote(s)
	}
	var b bytes.Buffer
	if err := json.Compact(&b, []byte(text)); err != nil {
		return "", fmt.Errorf("default %s is not JSON: %w", text, err)
	}
	return b.String(), nil
}
