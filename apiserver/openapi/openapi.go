// Package openapi serves descriptions of the API, made from the registry and the Go types behind it: one OpenAPI v3 document
// a group version (/openapi/v3, https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-v3), and everything in one
// OpenAPI v2 document (/openapi/v2). kubectl explains, completes and plans patches with them.
//
// Nothing is made at start. A document is made when it is first asked for, kept compressed, and made anew when the resources
// it describes are other ones. Descriptions of fields come from the types' own SwaggerDoc; a field is required when its JSON
// tag lets it neither be left out nor be null. What the types do not tell (list types, enumerations, defaults) is left out.
package openapi

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/handler"
	"k8s.io/kube-openapi/pkg/handler3"
	"k8s.io/kube-openapi/pkg/openapiconv"
	"k8s.io/kube-openapi/pkg/spec3"

	"pilothouse.dev/apiserver/registry"
)

// Docs makes and keeps the documents. Safe for concurrent use.
type Docs struct {
	reg *registry.Registry

	mu   sync.Mutex // also held while a document is made, so that no two callers make the same
	kept map[key]*document
}

type form int

const (
	asJSON form = iota
	asProtobuf
)

// key names a document: one group version in v3, or everything in v2 (path empty).
type key struct {
	path string // api/v1, apis/apps/v1
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

// groupVersions are the paths of the v3 documents there are.
func (d *Docs) groupVersions() map[string]schema.GroupVersion {
	all := map[string]schema.GroupVersion{}
	for _, gv := range d.reg.Groups() {
		all[strings.TrimPrefix(root(gv), "/")] = gv
	}
	return all
}

// root is the URL under which a group version is served.
func root(gv schema.GroupVersion) string {
	if gv.Group == "" {
		return "/api/" + gv.Version
	}
	return "/apis/" + gv.Group + "/" + gv.Version
}

// of returns the resources of a group version, or all.
func (d *Docs) of(gv *schema.GroupVersion) []*registry.Resource {
	var out []*registry.Resource
	for _, r := range d.reg.All() {
		if gv == nil || r.GVK.GroupVersion() == *gv {
			out = append(out, r)
		}
	}
	return out
}

// describe names resources and all that a document says of them, so that two equal texts mean equal documents.
func describe(resources []*registry.Resource) string {
	var b strings.Builder
	for _, r := range resources {
		fmt.Fprint(&b, r.GVK, r.Plural, r.Namespaced, r.Verbs, r.HasStatus, r.ScaleGet != nil, slices.Sorted(maps.Keys(r.Actions)), ";")
	}
	return b.String()
}

// v3 returns the document of a group version.
func (d *Docs) v3(path string, gv schema.GroupVersion, f form) (*document, error) {
	return d.get(key{path, f}, &gv, func(rs []*registry.Resource) ([]byte, error) {
		b := newBuilder()
		paths := b.paths(rs)
		doc := &spec3.OpenAPI{
			Version:    "3.0.0",
			Info:       info(),
			Paths:      openapiconv.ConvertPaths(paths),
			Components: openapiconv.ConvertComponents(security(), b.definitions, nil, nil),
		}
		oneOfs(doc.Components.Schemas)
		return json.Marshal(doc)
	}, handler3.ToV3ProtoBinary)
}

// v2 returns the document of everything.
func (d *Docs) v2(f form) (*document, error) {
	return d.get(key{"", f}, nil, func(rs []*registry.Resource) ([]byte, error) {
		return json.Marshal(swagger(rs))
	}, handler.ToProtoBinary)
}

// get returns a kept document, or makes it.
func (d *Docs) get(k key, gv *schema.GroupVersion, make func([]*registry.Resource) ([]byte, error), proto func([]byte) ([]byte, error)) (*document, error) {
	resources := d.of(gv)
	of := describe(resources)
	d.mu.Lock()
	defer d.mu.Unlock()
	if kept := d.kept[k]; kept != nil && kept.of == of {
		return kept, nil
	}
	raw, err := make(resources)
	if err != nil {
		return nil, fmt.Errorf("making the OpenAPI document %q: %w", k.path, err)
	}
	sum := sha256.Sum256(raw)
	if k.form == asProtobuf {
		if raw, err = proto(raw); err != nil {
			return nil, fmt.Errorf("encoding the OpenAPI document %q: %w", k.path, err)
		}
	}
	doc := &document{of: of, size: len(raw), hash: strings.ToUpper(hex.EncodeToString(sum[:]))}
	if doc.packed, err = pack(raw); err != nil {
		return nil, fmt.Errorf("packing the OpenAPI document %q: %w", k.path, err)
	}
	d.kept[k] = doc
	return doc, nil
}

func pack(raw []byte) ([]byte, error) {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	if _, err := z.Write(raw); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return bytes.Clone(b.Bytes()), nil
}

// unpacked reads the document as it was.
func (d *document) unpacked() (io.Reader, error) { return gzip.NewReader(bytes.NewReader(d.packed)) }
