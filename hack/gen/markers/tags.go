package main

import (
	"go/ast"
	"go/token"
	"reflect"
	"regexp"
	"strconv"
	"strings"
)

// tags are the markers of one declaration: +name=value, each as often as it stands there.
type tags map[string][]string

// A marker that holds only at some maturity, as in +k8s:beta(since: "1.37")=+k8s:optional, is of another form and not taken.
var marker = regexp.MustCompile(`^\+([A-Za-z0-9:_-]+)(?:=(.*))?$`)

// read collects the markers of comments. The declarative forms (+k8s:listType and so on) are kept apart by their names; what
// they say of shapes the older markers say as well, and renderField sees to it that it stays so.
func read(comments ...*ast.CommentGroup) tags {
	out := tags{}
	for _, c := range comments {
		if c == nil {
			continue
		}
		for _, line := range c.List {
			text, ok := strings.CutPrefix(line.Text, "//")
			if !ok {
				continue
			}
			if m := marker.FindStringSubmatch(strings.TrimSpace(text)); m != nil {
				out[m[1]] = append(out[m[1]], m[2])
			}
		}
	}
	return out
}

func (t tags) has(name string) bool { return t[name] != nil }

// first is the value of a marker, empty when it has none.
func (t tags) first(name string) string {
	if len(t[name]) == 0 {
		return ""
	}
	return strings.TrimSpace(t[name][0])
}

// docOf are the comments of a type: the one right above it and, set off by one empty line, another above that one. It is
// there that some markers stand.
func docOf(fset *token.FileSet, f *ast.File, g *ast.GenDecl, s *ast.TypeSpec) []*ast.CommentGroup {
	doc, at := s.Doc, s.Pos()
	if doc == nil && !g.Lparen.IsValid() {
		doc, at = g.Doc, g.Pos()
	}
	if doc != nil {
		at = doc.Pos()
	}
	line := fset.Position(at).Line
	var above *ast.CommentGroup
	for _, c := range f.Comments {
		if end := fset.Position(c.End()).Line; end == line-2 {
			above = c
		}
	}
	return []*ast.CommentGroup{above, doc}
}

// jsonName is the name of a field in JSON, and whether it is left out when empty. Empty: the field is not written, or what
// it holds stands among its neighbours.
func jsonName(f *ast.Field) (name string, optional bool) {
	if f.Tag == nil {
		return "", false
	}
	text, err := strconv.Unquote(f.Tag.Value)
	if err != nil {
		return "", false
	}
	name, options, _ := strings.Cut(reflect.StructTag(text).Get("json"), ",")
	if name == "-" {
		return "", false
	}
	for o := range strings.SplitSeq(options, ",") {
		optional = optional || o == "omitempty" || o == "omitzero"
	}
	return name, optional
}
