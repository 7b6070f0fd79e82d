package main

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestGeneratedFilesAreFresh(t *testing.T) {
	for file, make := range map[string]func(dir string) ([]byte, error){
		"../../../apiserver/markers/markers.txt":  generate,
		"../../../apiserver/openapi/comments.txt": describe,
	} {
		want, err := make(filepath.Dir(file))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("generated files are fresh: %s is not, run make generate", strings.TrimPrefix(file, "../../../"))
		}
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

func TestDescribe(t *testing.T) {
	const source = `package x

import other "example.com/other"

// Mood is how one feels.
// +enum
type Mood string

const (
	// Glad is a mood
	// of the better ones.
	Glad Mood = "Glad"
	// Far comes from elsewhere.
	Far = Mood(other.Far)
)

// Thing is a thing.
//
// It has items:
// - one
// - two
//
// TODO: have more.
// +k8s:something
type Thing struct {
	// Name is
	// a name.
	//
	// +optional
	Name string ` + "`json:\"name\"`" + `
	// ---
	// A note to ourselves.
	Quiet string ` + "`json:\"quiet\"`" + `
}

// Known describes itself.
type Known struct {
	// Name.
	Name string ` + "`json:\"name\"`" + `
}

func (Known) SwaggerDoc() map[string]string { return nil }
`
	parse := func(text string) *pkg {
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, "x.go", text, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		return &pkg{fset: fset, files: []*ast.File{f}}
	}
	p := parse(source)
	p.others = map[string]*pkg{"example.com/other": parse(`package other; const Far = "Away"`)}
	want := "Mood\n\tAway\t\"comes from elsewhere.\"\n\tGlad\t\"is a mood of the better ones.\"\n" +
		"Thing\n\t\t\"Thing is a thing.\\n\\nIt has items:\\n- one\\n- two\"\n\tname\t\"Name is a name.\"\n"
	if got := strings.Join(describePackage(p), ""); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
