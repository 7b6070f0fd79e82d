// Package configfile reads what an administrator tells in files: YAML or JSON, strictly, so that a misspelt word is an error and not
// silently nothing. Errors name the file, the line where it can be told, and the field; they never show a value that could not be read,
// since it may be a key.
package configfile

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
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"
	sigsyaml "sigs.k8s.io/yaml"
)

// Document is one configuration, YAML or JSON, with its place: a file, or a part of one. The zero Document says nothing. Immutable.
type Document struct {
	file string
	node *yaml.Node // for the lines of what is wrong
	json []byte
}

// Read reads a file.
func Read(file string) (Document, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return Document{}, err // it names the file
	}
	return parse(file, text)
}

// Parse reads the text of a file that the caller names in errors.
func Parse(text []byte) (Document, error) { return parse("", text) }

func parse(file string, text []byte) (Document, error) {
	d := Document{file: file}
	root := &yaml.Node{}
	if err := yaml.Unmarshal(text, root); err != nil {
		return d, d.at(0, err) // names the line
	}
	if len(root.Content) == 0 {
		return d, d.at(0, errors.New("the file is empty"))
	}
	d.node = root.Content[0]
	var err error
	if d.json, err = sigsyaml.YAMLToJSONStrict(text); err != nil { // a key that stands twice, too
		return d, d.at(0, err)
	}
	return d, nil
}

// Empty says whether there is no configuration at all.
func (d Document) Empty() bool { return len(d.json) == 0 }

// Into fills v. A field that v does not have, or one of another type, is an error.
func (d Document) Into(v any) error {
	strict, err := kjson.UnmarshalStrict(d.json, v)
	var mistyped *json.UnmarshalTypeError
	switch {
	case errors.As(err, &mistyped):
		return d.Wrong(mistyped.Field, err)
	case err != nil:
		return d.Wrong("", err)
	case len(strict) > 0:
		path := ""
		if _, quoted, ok := strings.Cut(strict[0].Error(), `unknown field "`); ok {
			path = strings.TrimSuffix(quoted, `"`)
		}
		return d.Wrong(path, strict[0])
	}
	return nil
}

// Versioned fills v with a configuration of one of the API versions given, and of a kind.
func (d Document) Versioned(v any, kind string, versions ...string) error {
	if is, of := d.Says("kind"), d.Says("apiVersion"); is != kind || !slices.Contains(versions, of) {
		return d.Wrong("kind", fmt.Errorf("got kind %q of apiVersion %q, want %q of %q", is, of, kind, versions[0]))
	}
	return d.Into(v)
}

// Invalid is the error of a document whose fields have wrong values, nil when there are none.
func (d Document) Invalid(errs field.ErrorList) error {
	if len(errs) == 1 {
		return d.Wrong(errs[0].Field, errs[0])
	}
	var all []error
	for _, e := range errs {
		all = append(all, fmt.Errorf("line %d: %w", lineOf(d.node, e.Field), e))
	}
	if err := utilerrors.NewAggregate(all); err != nil {
		return d.at(0, err)
	}
	return nil
}

// Says is the text of a field of the document itself, empty when there is none.
func (d Document) Says(key string) string {
	if n, _ := find(d.node, []string{key}); n != nil {
		return n.Value
	}
	return ""
}

// Wrong says what is wrong at a path such as plugins[1].name, with the line that has it.
func (d Document) Wrong(path string, err error) error { return d.at(lineOf(d.node, path), err) }

// at tells the place of an error; line 0 is not known.
func (d Document) at(line int, err error) error {
	if line > 0 {
		err = fmt.Errorf("line %d: %w", line, err)
	}
	if d.file != "" {
		err = fmt.Errorf("%s: %w", d.file, err)
	}
	return err
}

// Part is what stands at a path, with the JSON that it is.
func (d Document) Part(text []byte, path ...string) Document {
	at, _ := find(d.node, path)
	return Document{d.file, at, text}
}

// Beside is the path of a file that this one names: a relative one starts from its folder.
func (d Document) Beside(name string) string {
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
