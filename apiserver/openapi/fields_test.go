package openapi

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"pilothouse.dev/apiserver/resources"
)

// Every field of every kind that Go writes is in the document of its group version, and described; every reference leads
// somewhere. A field without words of its own has those of its type.
func TestEveryFieldIsDescribed(t *testing.T) {
	d := docsOfAll(t)
	documents := map[string]map[string]*spec.Schema{}
	for _, r := range resources.Table {
		at := root(r.GVK.GroupVersion())
		if documents[at] == nil {
			w := ask(t, d.ServeV3, "/openapi/v3"+at)
			doc := &spec3.OpenAPI{}
			if err := json.Unmarshal(w.Body.Bytes(), doc); err != nil || w.Code != http.StatusOK {
				t.Fatalf("%s: code %d, %v", at, w.Code, err)
			}
			closed(t, w.Body.Bytes(), "#/components/schemas/", func(name string) bool { return doc.Components.Schemas[name] != nil })
			documents[at] = doc.Components.Schemas
		}
		t.Run(r.GVK.Kind, func(t *testing.T) {
			c := &checker{t: t, schemas: documents[at], seen: map[reflect.Type]bool{}}
			c.check(reflect.TypeOf(r.New()).Elem())
		})
	}
}

type checker struct {
	t       *testing.T
	schemas map[string]*spec.Schema
	seen    map[reflect.Type]bool
}

func (c *checker) check(t reflect.Type) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || c.seen[t] {
		return
	}
	c.seen[t] = true
	s := c.schemas[modelName(t)]
	if s == nil {
		c.t.Errorf("%s has no schema", t)
		return
	}
	if s.Description == "" {
		c.t.Errorf("%s is not described", t)
	}
	if as[typed](t) == nil && as[selfMade](t) == nil {
		c.fields(t, t, s)
	}
}

func (c *checker) fields(in, t reflect.Type, s *spec.Schema) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || !f.IsExported():
		case f.Anonymous && name == "":
			c.fields(in, indirect(f.Type), s)
		default:
			p, ok := s.Properties[name]
			if !ok {
				c.t.Errorf("%s.%s has no schema", in, name)
				continue
			}
			if p.Description == "" && !c.inherits(&p) {
				c.t.Errorf("%s.%s is not described", in, name)
			}
			c.check(f.Type)
		}
	}
}

// inherits says whether a schema refers to one that is described.
func (c *checker) inherits(p *spec.Schema) bool {
	ref := p.Ref.String()
	if len(p.AllOf) == 1 {
		ref = p.AllOf[0].Ref.String()
	}
	if p.Items != nil && p.Items.Schema != nil {
		ref = p.Items.Schema.Ref.String()
	}
	of := c.schemas[strings.TrimPrefix(ref, "#/components/schemas/")]
	return of != nil && of.Description != ""
}

// The comments are read back whole.
func TestCommentsAreUnderstood(t *testing.T) {
	texts := 0
	for line := range strings.Lines(commentsText) {
		if strings.HasPrefix(line, "\t") {
			texts++
		}
	}
	got := 0
	for name, of := range readComments(commentsText) {
		got += len(of)
		for field, text := range of {
			if text == "" {
				t.Errorf("%s %s has an empty text", name, field)
			}
		}
	}
	if got != texts {
		t.Errorf("read %d texts of %d", got, texts)
	}
}
