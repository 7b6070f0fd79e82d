package plugins

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"
	sigsyaml "sigs.k8s.io/yaml"
)

// document is one configuration, YAML or JSON, with its place: a file, or a part of one. The zero document says nothing.
type document struct {
	file string
	node *yaml.Node // for the lines of what is wrong
	json []byte
}

// readDocument reads a file. The error names it, and the line where that is known.
func readDocument(file string) (document, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return document{}, err // it names the file
	}
	d := document{file: file}
	root := &yaml.Node{}
	if err := yaml.Unmarshal(text, root); err != nil {
		return d, fmt.Errorf("%s: %w", file, err)
	}
	if len(root.Content) == 0 {
		return d, fmt.Errorf("%s: the file is empty", file)
	}
	d.node = root.Content[0]
	if d.json, err = sigsyaml.YAMLToJSONStrict(text); err != nil { // a key that stands twice, too
		return d, fmt.Errorf("%s: %w", file, err)
	}
	return d, nil
}

// empty says whether there is no configuration at all.
func (d document) empty() bool { return len(d.json) == 0 }

// into fills v. A field that v does not have, or one of another type, is an error.
func (d document) into(v any) error {
	strict, err := kjson.UnmarshalStrict(d.json, v)
	var mistyped *json.UnmarshalTypeError
	switch {
	case errors.As(err, &mistyped):
		return d.wrong(mistyped.Field, err)
	case err != nil:
		return d.wrong("", err)
	case len(strict) > 0:
		path := ""
		if _, quoted, ok := strings.Cut(strict[0].Error(), `unknown field "`); ok {
			path = strings.TrimSuffix(quoted, `"`)
		}
		return d.wrong(path, strict[0])
	}
	return nil
}

// versioned fills v with a configuration of one of the API versions given, and of a kind.
func (d document) versioned(v any, kind string, versions ...string) error {
	if is, of := d.says("kind"), d.says("apiVersion"); is != kind || !slices.Contains(versions, of) {
		return d.wrong("kind", fmt.Errorf("got kind %q of apiVersion %q, want %q of %q", is, of, kind, versions[0]))
	}
	return d.into(v)
}

// invalid is the error of a document whose fields have wrong values, nil when there are none.
func (d document) invalid(errs field.ErrorList) error {
	if len(errs) == 0 {
		return nil
	}
	return d.wrong(errs[0].Field, errs.ToAggregate())
}

// says is the text of a field of the document itself, empty when there is none.
func (d document) says(key string) string {
	if n, _ := find(d.node, []string{key}); n != nil {
		return n.Value
	}
	return ""
}

// wrong says what is wrong at a path such as plugins[1].name, with the line that has it.
func (d document) wrong(path string, err error) error {
	if line := lineOf(d.node, path); line > 0 {
		return fmt.Errorf("%s: line %d: %w", d.file, line, err)
	}
	return fmt.Errorf("%s: %w", d.file, err)
}

// part is what stands at a path, with the JSON that it is.
func (d document) part(text []byte, path ...string) document {
	at, _ := find(d.node, path)
	return document{d.file, at, text}
}

// beside is the path of a file that this one names: a relative one starts from its folder.
func (d document) beside(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(filepath.Dir(d.file), name)
}

// lineOf finds the line of a path as far as it goes, 0 for none at all.
func lineOf(n *yaml.Node, path string) int {
	if n == nil {
		return 0
	}
	steps := strings.FieldsFunc(path, func(r rune) bool { return r == '.' || r == '[' || r == ']' })
	_, line := find(n, steps)
	return line
}

// find follows keys and indexes; when one is not there it returns nil and the line of the last that was.
func find(n *yaml.Node, steps []string) (*yaml.Node, int) {
	if n == nil {
		return nil, 0
	}
	line := n.Line
	for _, step := range steps {
		var next *yaml.Node
		switch n.Kind {
		case yaml.MappingNode:
			for i := 0; i+1 < len(n.Content); i += 2 {
				if n.Content[i].Value == step {
					next, line = n.Content[i+1], n.Content[i].Line
				}
			}
		case yaml.SequenceNode:
			if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(n.Content) {
				next, line = n.Content[i], n.Content[i].Line
			}
		}
		if next == nil {
			return nil, line
		}
		n = next
	}
	return n, line
}
