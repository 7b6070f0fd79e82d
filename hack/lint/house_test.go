package lint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// maxLines is where a second thought surely lives in a file.
const maxLines = 500

func TestFilesAreShort(t *testing.T) {
	eachSource(t, func(s source) {
		if s.lines > maxLines && !s.generated() {
			t.Errorf("a file has at most %d lines: %s has %d", maxLines, s.path, s.lines)
		}
	})
}

func TestOneDocAPackage(t *testing.T) {
	docs := map[string][]string{}
	eachSource(t, func(s source) {
		if s.test || s.generated() {
			return
		}
		if _, seen := docs[s.room]; !seen {
			docs[s.room] = nil
		}
		if s.syntax.Doc != nil {
			docs[s.room] = append(docs[s.room], s.name())
		}
	})
	for room, in := range docs {
		if len(in) != 1 {
			t.Errorf("every package has exactly one doc: %s has it in %d files %v", room, len(in), in)
		}
	}
}

func TestNoInit(t *testing.T) {
	eachSource(t, func(s source) {
		for _, d := range s.syntax.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("no func init: %s", s.at(f.Pos()))
			}
		}
	})
}

func TestFlagsOnlyInFlagsGo(t *testing.T) {
	eachSource(t, func(s source) {
		if s.test || s.name() == "flags.go" {
			return
		}
		ast.Inspect(s.syntax, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CompositeLit:
				if sel, ok := n.Type.(*ast.SelectorExpr); ok && isName(sel.X, "cli") && strings.HasSuffix(sel.Sel.Name, "Flag") {
					t.Errorf("flags are declared in flags.go: %s", s.at(n.Pos()))
				}
			case *ast.CallExpr:
				sel, ok := n.Fun.(*ast.SelectorExpr)
				if ok && isName(sel.X, "flag") && slices.Contains(s.imports, "flag") && !slices.Contains([]string{"Parse", "Parsed", "Lookup"}, sel.Sel.Name) {
					t.Errorf("flags are declared in flags.go: %s calls flag.%s", s.at(n.Pos()), sel.Sel.Name)
				}
			}
			return true
		})
		if slices.Contains(s.imports, "github.com/spf13/pflag") {
			t.Errorf("flags are urfave/cli's: %s imports pflag", s.path)
		}
	})
}

// Loggers come by constructor; one room makes them.
func TestLoggersAreMadeInOneRoom(t *testing.T) {
	makers := []string{"New", "NewProduction", "NewDevelopment", "NewExample", "Must", "NewProductionConfig", "NewDevelopmentConfig", "ReplaceGlobals", "L", "S"}
	eachSource(t, func(s source) {
		if s.test || s.room == "pkg/logging" || !slices.Contains(s.imports, "go.uber.org/zap") {
			return
		}
		ast.Inspect(s.syntax, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && isName(sel.X, "zap") && slices.Contains(makers, sel.Sel.Name) {
				t.Errorf("loggers are made in pkg/logging and come by constructor: %s uses zap.%s", s.at(sel.Pos()), sel.Sel.Name)
			}
			return true
		})
	})
}

func isName(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == name
}

// A package-level variable that is written after it was made is state without an
// owner. Found are assignments, also to an element or field, ++, delete and
// clear; and locks and atomics, which are there to be changed.
func TestNoMutableGlobals(t *testing.T) {
	packages := map[string][]*ast.File{}
	eachSource(t, func(s source) {
		if !s.test {
			packages[s.room] = append(packages[s.room], s.syntax)
		}
	})
	for _, p := range packages {
		for _, id := range mutableGlobals(p) {
			at := positions.Position(id.Pos())
			t.Errorf("no mutable globals: %s at %s:%d", id.Name, at.Filename, at.Line)
		}
	}
}

// mutableGlobals finds where the files of a package write package-level
// variables, and such variables as are made to be written.
func mutableGlobals(files []*ast.File) []*ast.Ident {
	var out []*ast.Ident
	globals := map[string]bool{}
	for _, f := range files {
		for _, spec := range globalSpecs(f) {
			for _, n := range spec.Names {
				globals[n.Name] = n.Name != "_"
			}
			if sel, ok := spec.Type.(*ast.SelectorExpr); ok && (isName(sel.X, "sync") || isName(sel.X, "atomic")) {
				out = append(out, spec.Names[0])
			}
		}
	}
	for _, f := range files {
		written := func(e ast.Expr) {
			if id := base(e); id != nil && globals[id.Name] && isGlobal(f, id) {
				out = append(out, id)
			}
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			ast.Inspect(fn.Body, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.AssignStmt:
					if n.Tok != token.DEFINE {
						for _, e := range n.Lhs {
							written(e)
						}
					}
				case *ast.IncDecStmt:
					written(n.X)
				case *ast.CallExpr:
					if (isName(n.Fun, "delete") || isName(n.Fun, "clear")) && len(n.Args) > 0 {
						written(n.Args[0])
					}
				}
				return true
			})
		}
	}
	return out
}

func TestMutableGlobalsAreCaught(t *testing.T) {
	for _, c := range []struct {
		name, code string
		want       int
	}{
		{"a table is data", `var table = []int{1}; func f() int { return table[0] }`, 0},
		{"assigned", `var n int; func f() { n = 1 }`, 1},
		{"counted", `var n int; func f() { n++ }`, 1},
		{"an element", `var m = map[string]int{}; func f() { m["a"] = 1; delete(m, "a") }`, 2},
		{"a field", `var c config; func f() { c.a.b = 1 }`, 1},
		{"a local of the same name", `var n int; func f() { n := 1; n = 2; _ = n }`, 0},
		{"a parameter of the same name", `var n int; func f(n int) { n = 2 }`, 0},
		{"nothing", `var _ io.Reader = x{}; func f() { _ = 1 }`, 0},
		{"a lock", `var mu sync.Mutex`, 1},
		{"an atomic", `var n atomic.Int64`, 1},
	} {
		f, err := parser.ParseFile(token.NewFileSet(), "x.go", "package x; "+c.code, 0)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if got := mutableGlobals([]*ast.File{f}); len(got) != c.want {
			t.Errorf("%s: found %d, want %d", c.name, len(got), c.want)
		}
	}
}

// globalSpecs are the package-level variables of a file.
func globalSpecs(f *ast.File) []*ast.ValueSpec {
	var out []*ast.ValueSpec
	for _, d := range f.Decls {
		if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.VAR {
			for _, s := range g.Specs {
				out = append(out, s.(*ast.ValueSpec))
			}
		}
	}
	return out
}

// base is the variable that an expression writes into: x of x, x.y, x[i].
func base(e ast.Expr) *ast.Ident {
	switch e := e.(type) {
	case *ast.Ident:
		return e
	case *ast.SelectorExpr:
		return base(e.X)
	case *ast.IndexExpr:
		return base(e.X)
	case *ast.ParenExpr:
		return base(e.X)
	}
	return nil
}

// isGlobal tells whether a name in a function is that of the package. The parser
// resolves names within one file; what it left open is declared in another.
func isGlobal(f *ast.File, id *ast.Ident) bool {
	if id.Obj == nil {
		return true
	}
	spec, ok := id.Obj.Decl.(*ast.ValueSpec)
	return ok && slices.Contains(globalSpecs(f), spec)
}

// The root of the checkout, and of each daemon, is what DESIGN.md says.
func TestTheHouseIsAsDrawn(t *testing.T) {
	all, err := files()
	if err != nil {
		t.Fatal(err)
	}
	top := []string{
		".ci", ".gitignore", "ARCHITECTURE.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "go.work", "go.work.sum",
		"apiserver", "scheduler", "controller-manager", "kubelet", "kube-proxy", "pkg", "hack",
	}
	daemons := []string{"apiserver", "scheduler", "controller-manager", "kubelet", "kube-proxy"}
	// complete.go checks the flags and rooms.go makes the rooms' configurations of them, where flags.go would be too long.
	inDaemon := []string{"main.go", "flags.go", "complete.go", "rooms.go", "controllers.go", "README.md", "go.mod", "go.sum"}
	found := map[string]bool{}
	for _, f := range all {
		first, rest, _ := strings.Cut(f, "/")
		found[first] = true
		if slices.Contains(daemons, first) && !strings.Contains(rest, "/") && !slices.Contains(inDaemon, rest) && !strings.HasSuffix(rest, "_test.go") {
			t.Errorf("a daemon's folder has main.go, flags.go, its table and its rooms: not %s", f)
		}
	}
	for name := range found {
		if !slices.Contains(top, name) {
			t.Errorf("the root of the checkout is as DESIGN.md draws it: not %s", name)
		}
	}
	for _, name := range top {
		if !found[name] {
			t.Errorf("the root of the checkout is as DESIGN.md draws it: %s is missing", name)
		}
	}
	for _, d := range daemons {
		for _, f := range []string{"main.go", "flags.go", "README.md"} {
			if !slices.Contains(all, path.Join(d, f)) {
				t.Errorf("every daemon has main.go, flags.go and README.md: %s/%s is missing", d, f)
			}
		}
	}
}

// A checkout knows nothing of the machine it was written on.
func TestNoMachineIsNamed(t *testing.T) {
	all, err := files()
	if err != nil {
		t.Fatal(err)
	}
	home := "/" + "root" + "/"
	desk := "/" + "work" + "/(main|shared|\\.library)"
	patterns := []*regexp.Regexp{regexp.MustCompile(`(^|[^A-Za-z0-9_.$}])` + home), regexp.MustCompile(`(^|[^A-Za-z0-9_.$}])` + desk)}
	for _, host := range proxyHosts(t) {
		patterns = append(patterns, regexp.MustCompile(regexp.QuoteMeta(host)))
	}
	for _, f := range all {
		text, err := os.ReadFile(filepath.Join(root, f))
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(text[:min(len(text), 8000)], 0) {
			continue // binary
		}
		for i, line := range strings.Split(string(text), "\n") {
			for _, p := range patterns {
				if p.MatchString(line) {
					t.Errorf("no path or host of this machine in the checkout: %s:%d: %s", f, i+1, strings.TrimSpace(line))
				}
			}
		}
	}
}

// proxyHosts are the hosts this machine gets modules from.
func proxyHosts(t *testing.T) []string {
	out, err := exec.Command("go", "env", "GOPROXY").Output()
	if err != nil {
		t.Fatalf("asking go for its proxy: %v", err)
	}
	var hosts []string
	for _, u := range strings.FieldsFunc(string(out), func(r rune) bool { return strings.ContainsRune(",|\n", r) }) {
		if _, rest, ok := strings.Cut(u, "://"); ok {
			host, _, _ := strings.Cut(rest, "/")
			host = host[strings.LastIndex(host, "@")+1:]
			hosts = append(hosts, host)
		}
	}
	return hosts
}
