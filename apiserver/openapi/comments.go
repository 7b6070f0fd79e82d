package openapi

import (
	_ "embed"
	"maps"
	"reflect"
	"strconv"
	"strings"
)

//go:generate go run pilothouse.dev/hack/gen/markers comments comments.txt

// What the types' source says where the types themselves do not: descriptions of those without SwaggerDoc, and of the values of
// enumerations. Made by hack/gen/markers.
//
//go:embed comments.txt
var commentsText string

type documented interface{ SwaggerDoc() map[string]string }

// comments is the table by package and name of each type, then by field, or by the value of an enumeration. It is read when a
// document is made and dropped with the builder.
type comments map[string]map[string]string

// readComments reads the table. Lines are package PATH; a type's name; or, after a tab, a field's name (empty for the type
// itself), another tab, and a text as a Go string.
func readComments(text string) comments {
	out := comments{}
	var pkg string
	var of map[string]string
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "package "):
			pkg = line[len("package "):] + "."
		case strings.HasPrefix(line, "\t"):
			name, quoted, _ := strings.Cut(line[1:], "\t")
			if text, err := strconv.Unquote(quoted); err == nil { // a test reads them all
				of[name] = text
			}
		default:
			of = map[string]string{}
			out[pkg+line] = of
		}
	}
	return out
}

// docs are the descriptions of a type (under the empty name) and its fields.
func (b *builder) docs(t reflect.Type) map[string]string {
	if d := as[documented](t); d != nil {
		return d.SwaggerDoc()
	}
	name := t.PkgPath() + "." + t.Name()
	said := b.comments[name]
	if own := uncommented[name]; own != nil {
		all := maps.Clone(own)
		maps.Copy(all, said)
		return all
	}
	return said
}

// values tells what the values of an enumeration mean, as the end of a description.
func (c comments) values(t reflect.Type, enum []string) string {
	of := c[t.PkgPath()+"."+t.Name()]
	var b strings.Builder
	b.WriteString("\n\nPossible enum values:")
	for _, v := range enum {
		b.WriteString("\n - `" + strconv.Quote(v) + "`")
		if about := of[v]; about != "" {
			b.WriteString(" " + about)
		}
	}
	return b.String()
}
