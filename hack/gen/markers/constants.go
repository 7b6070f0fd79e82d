package main

import (
	"go/ast"
	"go/token"
	"slices"
	"strconv"
)

// constants are the constants of a package: their values as Go writes them, and of which named type they are.
type constants struct {
	values map[string]ast.Expr
	typed  map[string][]string // by type: names of constants
}

func constantsOf(p *pkg) constants {
	c := constants{map[string]ast.Expr{}, map[string][]string{}}
	for _, f := range p.files {
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.CONST {
				continue
			}
			for _, s := range g.Specs {
				v := s.(*ast.ValueSpec)
				for i, n := range v.Names {
					if i >= len(v.Values) {
						continue // iota: no enumeration of the API is a number
					}
					c.values[n.Name] = v.Values[i]
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

// text is the value of a string constant's expression.
func (c constants) text(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind != token.STRING {
			return "", false
		}
		s, err := strconv.Unquote(e.Value)
		return s, err == nil
	case *ast.ParenExpr:
		return c.text(e.X)
	case *ast.Ident:
		v, ok := c.values[e.Name]
		if !ok {
			return "", false
		}
		return c.text(v)
	case *ast.CallExpr: // a conversion
		if len(e.Args) != 1 {
			return "", false
		}
		return c.text(e.Args[0])
	case *ast.BinaryExpr:
		a, ok1 := c.text(e.X)
		b, ok2 := c.text(e.Y)
		return a + b, ok1 && ok2 && e.Op == token.ADD
	}
	return "", false
}

// enum is the values of a string type's constants, sorted, each once.
func (c constants) enum(name string) []string {
	var out []string
	for _, n := range c.typed[name] {
		if v, ok := c.text(c.values[n]); ok {
			out = append(out, v)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
