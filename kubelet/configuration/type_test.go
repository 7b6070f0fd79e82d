package configuration

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// foreign are objects of the type that other modules declare, and their fields.
var foreign = map[string][]string{
	"logging": {"format", "flushFrequency", "verbosity", "vmodule", "options"},
	"tracing": {"endpoint", "samplingRatePerMillion"},
}

// TestTableIsTheType compares the table with the declaration of KubeletConfiguration: no field is forgotten, none is invented, and each is read as
// what it is. The declaration is parsed, not imported: with it would come flags and metrics of another program.
func TestTableIsTheType(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubelet").Output()
	if err != nil {
		t.Fatal(err)
	}
	syntax, err := parser.ParseFile(token.NewFileSet(), filepath.Join(strings.TrimSpace(string(dir)), "config/v1beta1/types.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	structs, words := map[string]*ast.StructType{}, map[string]bool{}
	ast.Inspect(syntax, func(n ast.Node) bool {
		if s, ok := n.(*ast.TypeSpec); ok {
			switch as := s.Type.(type) {
			case *ast.StructType:
				structs[s.Name.Name] = as
			case *ast.Ident:
				words[s.Name.Name] = as.Name == "string"
			}
		}
		return true
	})
	want := map[string]kind{}
	var walk func(name, at string)
	walk = func(name, at string) {
		for _, f := range structs[name].Fields.List {
			tag := reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("json")
			word, _, _ := strings.Cut(tag, ",")
			if word == "" { // kind and apiVersion
				continue
			}
			path := at + word
			of := typeName(f.Type)
			switch {
			case structs[of] != nil && !isList(f.Type):
				walk(of, path+".")
			case foreign[word] != nil:
				for _, below := range foreign[word] {
					want[path+"."+below] = -1
				}
			default:
				want[path] = kindOf(f.Type, of, words)
			}
		}
	}
	walk("KubeletConfiguration", "")
	if len(want) < 100 {
		t.Fatalf("only %d fields were found", len(want))
	}
	for _, path := range slices.Sorted(maps.Keys(want)) {
		row, ok := table[path]
		if !ok {
			t.Errorf("%s is not in the table", path)
			continue
		}
		if k := row.kind; want[path] >= 0 && k != want[path] && !(k == file && want[path] == text) {
			t.Errorf("%s is read as kind %d, it is %d", path, row.kind, want[path])
		}
	}
	for path := range table {
		if _, ok := want[path]; !ok {
			t.Errorf("%s is in the table, but not in the type", path)
		}
	}
}

func isList(e ast.Expr) bool { _, ok := e.(*ast.ArrayType); return ok }

// typeName is the name of what an expression is made of: of *bool it is bool.
func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return typeName(e.X)
	case *ast.ArrayType:
		return typeName(e.Elt)
	case *ast.SelectorExpr:
		return e.Sel.Name
	case *ast.Ident:
		return e.Name
	}
	return ""
}

func kindOf(e ast.Expr, of string, words map[string]bool) kind {
	if m, ok := e.(*ast.MapType); ok {
		if isList(m.Value) {
			return object
		}
		if typeName(m.Value) == "bool" {
			return gates
		}
		return pairs
	}
	if isList(e) {
		switch of {
		case "string":
			return list
		case "int32":
			return numbers
		case "Taint":
			return taints
		}
		return object
	}
	switch {
	case of == "bool":
		return boolean
	case of == "int32" || of == "int64":
		return number
	case of == "float64":
		return float
	case of == "Duration":
		return duration
	case of == "string" || words[of]:
		return text
	}
	return object
}
