package main

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"testing"
)

const room = "../../../apiserver/markers"

func TestMarkersAreFresh(t *testing.T) {
	want, err := generate(room)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(room + "/markers.txt")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("generated files are fresh: apiserver/markers/markers.txt is not, run make generate")
	}
}

func TestRender(t *testing.T) {
	const source = `package x

// A Mood is how one feels.
// +enum
type Mood string

const (
	Glad Mood = "Glad"
	Sad       = Mood("Sad")
	Twice Mood = Glad
	Other = "Other"
)

// +structType=atomic

// Plain says nothing of its fields.
type Plain struct {
	A string ` + "`json:\"a\"`" + `
}

type Thing struct {
	// Names.
	// +listType=map
	// +listMapKey=name
	// +listMapKey=port
	// +required
	Names []string ` + "`json:\"names,omitempty\"`" + `
	// +optional
	Mood Mood ` + "`json:\"mood\"`" + `
	// +default=ref(Sad)
	Next Mood ` + "`json:\"next,omitempty\"`" + `
	// +default={"a": 1}
	// +k8s:beta(since: "1.37")=+k8s:optional
	Last Plain ` + "`json:\"last\"`" + `
	// +listType=atomic
	Hidden []string ` + "`json:\"-\"`" + `
}
`
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, "x.go", source, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	got, err := render(&pkg{fset: fset, files: []*ast.File{f}})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"Mood enum=Glad,Sad\n",
		"Plain struct=atomic\n",
		"Thing\n\tlast default={\"a\":1}\n\tmood optional\n\tnames list=map:name,port required\n\tnext default=\"Sad\"\n",
	}
	if len(got) != len(want) {
		t.Fatalf("got %q, want %q", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("got %q, want %q", got[i], want[i])
		}
	}
}

func TestRenderRefuses(t *testing.T) {
	for name, field := range map[string]string{
		"both":       "// +optional\n// +required\n",
		"not JSON":   "// +default=what\n",
		"no such":    "// +default=ref(Nobody)\n",
		"newer only": "// +k8s:listType=atomic\n",
	} {
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, "x.go", "package x\ntype T struct {\n"+field+"A []string `json:\"a\"`\n}\n", parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		if out, err := render(&pkg{fset: fset, files: []*ast.File{f}}); err == nil {
			t.Errorf("%s: no error but %q", name, out)
		}
	}
}
