// Package openapi serves descriptions of the API, made from the registry and the Go types behind it: one OpenAPI v3 document
// a group version (/openapi/v3, https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-v3), and everything in one
// OpenAPI v2 document (/openapi/v2). kubectl explains, completes and plans patches with them.
//
// Nothing is made at start. A document is made when it is first asked for, written straight into its packed form, and made anew
// when the resources it describes are other ones; nothing else of it is kept. Descriptions come from the types' own SwaggerDoc
// or, where they have none, from the comments of their source (comments.txt); how lists merge, defaults, enumerations and which
// fields are required from the room markers. Names, extensions and operation ids are those that Kubernetes publishes.
package openapi

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/pkg/api"
)

// Docs makes and keeps the documents. Safe for concurrent use.
type Docs struct {
	reg *registry.Registry

	mu      sync.Mutex // also held while a document is made, so that no two callers make the same
	kept    map[key]*document
	packers sync.Pool // of *gzip.Writer: a megabyte each, kept no longer than it pays
}

type form int

const (
	asJSON form = iota
	asProtobuf
)

// key names a document: one in v3, or everything in v2 (path empty).
type key struct {
	path string // api/v1, apis/apps/v1, apis/apps, version
	form form
}

// document is one finished document.
type document struct {
	of     string // the resources it describes
	packed []byte // gzip
	size   int    // unpacked
	hash   string // of the unpacked JSON, for both forms
}

// New makes Docs of a registry that may still grow and shrink.
func New(reg *registry.Registry) *Docs { return &Docs{reg: reg, kept: map[key]*document{}} }

// paths are the paths of the v3 documents there are; those of a group version come with it.
func (d *Docs) paths() map[string]*schema.GroupVersion {
	all := map[string]*schema.GroupVersion{"api": nil, "apis": nil, "version": nil}
	for _, gv := range d.reg.Groups() {
		if gv.Group != "" {
			all["apis/"+gv.Group] = nil
		}
		all[strings.TrimPrefix(root(gv), "/")] = &gv
	}
	return all
}

// of returns the resources of a group version.
func (d *Docs) of(gv *schema.GroupVersion) []*registry.Resource {
	var out []*registry.Resource
	for _, r := range d.reg.All() {
		if gv != nil && r.GVK.GroupVersion() == *gv {
			out = append(out, r)
		}
	}
	return out
}

// describe names resources and all that a document says of them, so that two equal texts mean equal documents.
func describe(resources []*registry.Resource) string {
	var b strings.Builder
	for _, r := range resources {
		fmt.Fprint(&b, r.GVK, r.Plural, r.Namespaced, r.Verbs, r.HasStatus, r.ScaleGet != nil)
		for _, p := range r.Parts {
			fmt.Fprint(&b, " ", p.Name)
		}
		for _, name := range slices.Sorted(maps.Keys(r.Actions)) {
			fmt.Fprint(&b, " ", name, r.Actions[name].Kind, r.Actions[name].Verbs)
		}
		b.WriteByte(';')
	}
	return b.String()
}

// v3 returns the document of a path.
func (d *Docs) v3(at string, gv *schema.GroupVersion, f form) (*document, error) {
	resources := d.of(gv)
	return d.get(key{at, f}, resources, func() *model {
		b := d.builder()
		paths := map[string]*path{}
		b.general(at, paths)
		b.resources(resources, paths)
		return &model{paths, b.definitions}
	}, protobufV3)
}

// v2 returns the document of everything.
func (d *Docs) v2(f form) (*document, error) {
	return d.get(key{"", f}, d.reg.All(), func() *model {
		b := d.builder()
		paths := map[string]*path{}
		for at := range d.paths() {
			b.general(at, paths)
		}
		b.resources(d.reg.All(), paths)
		return &model{paths, b.definitions}
	}, protobufV2)
}

// builder makes a builder that knows what the registry serves.
func (d *Docs) builder() *builder {
	b := newBuilder()
	for _, r := range d.reg.All() {
		t := reflect.TypeOf(r.New()).Elem()
		b.served[t], b.types[r.GVK] = r.GVK, t
		b.versions[r.GVK.GroupVersion()] = true
	}
	return b
}

// typeOf is the Go type of a kind; a text for what nobody knows.
func (b *builder) typeOf(gvk schema.GroupVersionKind) reflect.Type {
	if t, ok := b.types[gvk]; ok {
		return t
	}
	obj, err := api.Scheme.New(gvk)
	if err != nil {
		return reflect.TypeFor[string]()
	}
	return reflect.TypeOf(obj).Elem()
}

// get returns a kept document, or makes it.
func (d *Docs) get(k key, resources []*registry.Resource, make func() *model, proto func(*model) []byte) (*document, error) {
	of := describe(resources)
	d.mu.Lock()
	defer d.mu.Unlock()
	if kept := d.kept[k]; kept != nil && kept.of == of {
		return kept, nil
	}
	doc, err := d.write(make(), k, proto)
	if err != nil {
		return nil, fmt.Errorf("making the OpenAPI document %q: %w", k.path, err)
	}
	doc.of = of
	d.kept[k] = doc
	return doc, nil
}

// write writes a model into its packed form. The hash is that of the JSON, whatever the form.
func (d *Docs) write(m *model, k key, proto func(*model) []byte) (*document, error) {
	var packed bytes.Buffer
	z, _ := d.packers.Get().(*gzip.Writer)
	if z == nil {
		z = gzip.NewWriter(nil)
	}
	defer d.packers.Put(z)
	z.Reset(&packed)
	sum, size := sha256.New(), &counter{}
	var raw []byte
	w := &jsonWriter{to: io.MultiWriter(sum, size, z), v3: k.path != ""}
	if k.form == asProtobuf {
		w.to, raw = sum, proto(m)
	}
	if err := w.document(m); err != nil {
		return nil, err
	}
	if k.form == asProtobuf {
		size.n = len(raw)
		if _, err := z.Write(raw); err != nil {
			return nil, err
		}
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return &document{packed: bytes.Clone(packed.Bytes()), size: size.n, hash: hexOf(sum)}, nil
}

// counter counts what is written.
type counter struct{ n int }

func (c *counter) Write(b []byte) (int, error) {
	c.n += len(b)
	return len(b), nil
}

func hexOf(h hash.Hash) string { return strings.ToUpper(hex.EncodeToString(h.Sum(nil))) }

// unpacked reads the document as it was.
func (d *document) unpacked() (io.Reader, error) { return gzip.NewReader(bytes.NewReader(d.packed)) }
