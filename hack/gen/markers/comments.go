package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/token"
	"slices"
	"strconv"
	"strings"
)

// describe makes the text of what the comments say for people, as far as the types do not say it themselves (SwaggerDoc): of
// each package its types and fields, and the values of its enumerations.
func describe(dir string) ([]byte, error) {
	packages, versions, err := load(dir)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Made by hack/gen/markers (make generate) from the comments of %s.\n", strings.Join(versions, ", "))
	for _, p := range packages {
		types := describePackage(p)
		if len(types) > 0 {
			fmt.Fprintf(&b, "package %s\n%s", p.path, strings.Join(types, ""))
		}
	}
	return b.Bytes(), nil
}

func describePackage(p *pkg) []string {
	c := constantsOf(p)
	documented, written := p.methods("SwaggerDoc"), p.methods("OpenAPISchemaType")
	var out []string
	for _, f := range p.files {
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.TYPE {
				continue
			}
			for _, s := range g.Specs {
				spec := s.(*ast.TypeSpec)
				doc := docOf(p.fset, f, g, spec)
				var lines []string
				switch t := spec.Type.(type) {
				case *ast.StructType:
					if !documented[spec.Name.Name] && (written[spec.Name.Name] || tagged(t)) {
						lines = describeFields(t, doc[1])
					}
				case *ast.Ident:
					if read(doc...).has("enum") {
						lines = c.describe(spec.Name.Name)
					}
				}
				if spec.Name.IsExported() && len(lines) > 0 {
					out = append(out, spec.Name.Name+"\n"+strings.Join(lines, ""))
				}
			}
		}
	}
	slices.Sort(out)
	return out
}

// methods are the types of a package that have a method of that name.
func (p *pkg) methods(name string) map[string]bool {
	out := map[string]bool{}
	for _, f := range p.files {
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv == nil || fn.Name.Name != name {
				continue
			}
			t := fn.Recv.List[0].Type
			if star, ok := t.(*ast.StarExpr); ok {
				t = star.X
			}
			if id, ok := t.(*ast.Ident); ok {
				out[id.Name] = true
			}
		}
	}
	return out
}

func tagged(s *ast.StructType) bool {
	return slices.ContainsFunc(s.Fields.List, func(f *ast.Field) bool { return f.Tag != nil })
}

func describeFields(s *ast.StructType, doc *ast.CommentGroup) []string {
	var out []string
	add := func(name string, doc *ast.CommentGroup) {
		if text := prose(doc); text != "" {
			out = append(out, "\t"+name+"\t"+strconv.Quote(text)+"\n")
		}
	}
	for _, f := range s.Fields.List {
		if name, _ := jsonName(f); name != "" {
			add(name, f.Doc)
		}
	}
	add("", doc)
	slices.Sort(out)
	return out
}

// describe is what is said of the values of an enumeration. Where two constants have one value, the longer text counts.
func (c constants) describe(name string) []string {
	texts := map[string]string{}
	for _, n := range c.typed[name] {
		v, ok := c.named(n)
		text := strings.Join(strings.Fields(strings.TrimPrefix(prose(c.values[n].doc), n)), " ")
		if ok && len(text) > len(texts[v]) {
			texts[v] = text
		}
	}
	var out []string
	for v, text := range texts {
		out = append(out, "\t"+v+"\t"+strconv.Quote(text)+"\n")
	}
	slices.Sort(out)
	return out
}

// prose is a comment as a description: lines of a paragraph joined, paragraphs, list items and indented lines on lines of
// their own, without markers and without what stands below a line of three dashes or is a note to the developers.
func prose(doc *ast.CommentGroup) string {
	if doc == nil {
		return ""
	}
	var b strings.Builder
	glue := ""
	for line := range strings.SplitSeq(doc.Text(), "\n") {
		word := strings.TrimSpace(line)
		switch {
		case word == "---":
			return strings.TrimSpace(b.String())
		case word == "":
			glue = "\n\n"
			continue
		case strings.HasPrefix(word, "+"), strings.HasPrefix(word, "TODO"):
			continue
		case glue == " " && (strings.HasPrefix(line, "\t") || strings.HasPrefix(line, "  ") || strings.HasPrefix(word, "- ") || strings.HasPrefix(word, "* ")):
			glue = "\n"
		}
		if b.Len() > 0 {
			b.WriteString(glue)
		}
		b.WriteString(strings.TrimRight(line, " \t"))
		glue = " "
	}
	return strings.TrimSpace(b.String())
}
