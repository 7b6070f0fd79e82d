package main

import (
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strconv"
	"strings"
)

// constants are the constants of a package: their values as Go writes them, and of which named type they are.
type constants struct {
	values map[string]constant
	typed  map[string][]string // by type: names of constants
	others map[string]*pkg     // every package that was loaded, by its path
}

type constant struct {
	value   ast.Expr
	doc     *ast.CommentGroup
	imports map[string]string // of its file: path by name
}

func constantsOf(p *pkg) constants {
	c := constants{map[string]constant{}, map[string][]string{}, p.others}
	for _, f := range p.files {
		imports := importsOf(f)
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.CONST {
				continue
			}
			for _, s := range g.Specs {
				v := s.(*ast.ValueSpec)
				doc := v.Doc
				if doc == nil && !g.Lparen.IsValid() {
					doc = g.Doc
				}
				for i, n := range v.Names {
					if i >= len(v.Values) {
						continue // iota: no enumeration of the API is a number
					}
					c.values[n.Name] = constant{v.Values[i], doc, imports}
					of := v.Type
					if call, ok := v.Values[i].(*ast.CallExpr); ok && of == nil {
						of = call.Fun
					}
					if id, ok := of.(*ast.Ident); ok {
						c.typed[id.Name] = append(c.typed[id.Name], n.Name)
					}
				}
			}
		}
	}
	return c
}

func importsOf(f *ast.File) map[string]string {
	out := map[string]string{}
	for _, i := range f.Imports {
		p := strings.Trim(i.Path.Value, `"`)
		name := path.Base(p)
		if i.Name != nil {
			name = i.Name.Name
		}
		out[name] = p
	}
	return out
}

// named is the value of a string constant.
func (c constants) named(name string) (string, bool) {
	v, ok := c.values[name]
	if !ok {
		return "", false
	}
	return c.text(v.value, v.imports)
}

// text is the value of a string constant's expression.
func (c constants) text(e ast.Expr, imports map[string]string) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind != token.STRING {
			return "", false
		}
		s, err := strconv.Unquote(e.Value)
		return s, err == nil
	case *ast.ParenExpr:
		return c.text(e.X, imports)
	case *ast.Ident:
		return c.named(e.Name)
	case *ast.SelectorExpr:
		of, ok := e.X.(*ast.Ident)
		if !ok || c.others[imports[of.Name]] == nil {
			return "", false
		}
		return constantsOf(c.others[imports[of.Name]]).named(e.Sel.Name)
	case *ast.CallExpr: // a conversion
		if len(e.Args) != 1 {
			return "", false
		}
		return c.text(e.Args[0], imports)
	case *ast.BinaryExpr:
		a, ok1 := c.text(e.X, imports)
		b, ok2 := c.text(e.Y, imports)
		return a + b, ok1 && ok2 && e.Op == token.ADD
	}
	return "", false
}

// enum is the values of a string type's constants, sorted, each once.
func (c constants) enum(name string) ([]string, error) {
	var out []string
	for _, n := range c.typed[name] {
		v, ok := c.named(n)
		if !ok {
			return nil, fmt.Errorf("constant %s of the enumeration %s is no text that can be read here", n, name)
		}
		out = append(out, v)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}
