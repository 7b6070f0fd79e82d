package openapi

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	openapi_v2 "github.com/google/gnostic-models/openapiv2"
	openapi_v3 "github.com/google/gnostic-models/openapiv3"
	"google.golang.org/protobuf/proto"
	"k8s.io/kube-openapi/pkg/handler3"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/resources"
	"pilothouse.dev/apiserver/storage"
)

func docsOfAll(t testing.TB) *Docs {
	t.Helper()
	return New(registry.New(nowhere{}, resources.Table))
}

// nowhere is a backend that nobody reads.
type nowhere struct{}

func (nowhere) Store(storage.Kind) storage.Store { return nil }

func ask(t *testing.T, h http.HandlerFunc, url string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, url, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h(w, r)
	return w
}

func TestV3(t *testing.T) {
	d := docsOfAll(t)
	index := handler3.OpenAPIV3Discovery{}
	if err := json.Unmarshal(ask(t, d.ServeV3, "/openapi/v3").Body.Bytes(), &index); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"api/v1", "apis/apps/v1", "apis/events.k8s.io/v1", "apis/discovery.k8s.io/v1", "apis/coordination.k8s.io/v1"} {
		t.Run(path, func(t *testing.T) {
			url := index.Paths[path].ServerRelativeURL
			if !strings.HasPrefix(url, "/openapi/v3/"+path+"?hash=") {
				t.Fatalf("address %q", url)
			}
			w := ask(t, d.ServeV3, url, "Accept", "application/json")
			if w.Code != http.StatusOK || w.Header().Get("Cache-Control") != "public, immutable" {
				t.Fatalf("code %d, %v", w.Code, w.Header())
			}
			doc := &spec3.OpenAPI{}
			if err := json.Unmarshal(w.Body.Bytes(), doc); err != nil {
				t.Fatal(err)
			}
			closed(t, w.Body.Bytes(), "#/components/schemas/", func(name string) bool { return doc.Components.Schemas[name] != nil })
			ids := map[string]string{}
			for url, p := range doc.Paths.Paths {
				for verb, op := range map[string]*spec3.Operation{"get": p.Get, "put": p.Put, "post": p.Post, "delete": p.Delete, "patch": p.Patch} {
					if op == nil {
						continue
					}
					if other := ids[op.OperationId]; other != "" {
						t.Errorf("%s is the id of %s and %s %s", op.OperationId, other, verb, url)
					}
					ids[op.OperationId] = verb + " " + url
				}
				if p.Patch == nil {
					continue
				}
				// What kubectl looks for before it leaves validation and merging to the server.
				if p.Patch.RequestBody.Content["application/strategic-merge-patch+json"] == nil {
					t.Errorf("%s takes no strategic merge patch", url)
				}
				if !hasQuery(p.Patch, "fieldValidation") {
					t.Errorf("%s has no fieldValidation", url)
				}
			}
		})
	}
}

func hasQuery(op *spec3.Operation, name string) bool {
	for _, p := range op.Parameters {
		if p.Name == name && p.In == "query" {
			return true
		}
	}
	return false
}

// closed checks that no reference leads nowhere.
func closed(t *testing.T, raw []byte, prefix string, defined func(string) bool) {
	t.Helper()
	for i, part := range strings.Split(string(raw), `"$ref":"`) {
		if i == 0 {
			continue
		}
		ref, _, _ := strings.Cut(part, `"`)
		name, ok := strings.CutPrefix(ref, prefix)
		if !ok || !defined(name) {
			t.Errorf("reference %s leads nowhere", ref)
		}
	}
}

func TestSchemas(t *testing.T) {
	d := docsOfAll(t)
	doc := &spec3.OpenAPI{}
	if err := json.Unmarshal(ask(t, d.ServeV3, "/openapi/v3/apis/apps/v1").Body.Bytes(), doc); err != nil {
		t.Fatal(err)
	}
	schemas := doc.Components.Schemas
	deployment := schemas["io.k8s.api.apps.v1.Deployment"]
	if deployment == nil {
		t.Fatal("no Deployment")
	}
	gvks, _ := json.Marshal(deployment.Extensions[gvkExtension])
	if string(gvks) != `[{"group":"apps","kind":"Deployment","version":"v1"}]` {
		t.Errorf("kinds %s", gvks)
	}
	for _, name := range []string{"apiVersion", "kind", "metadata", "spec", "status"} {
		if p, ok := deployment.Properties[name]; !ok || p.Description == "" {
			t.Errorf("%s is missing or not described", name)
		}
	}
	spec := schemas["io.k8s.api.core.v1.PodSpec"]
	if got := spec.Required; len(got) != 1 || got[0] != "containers" {
		t.Errorf("a pod spec needs %v", got)
	}
	containers := spec.Properties["containers"]
	if containers.Extensions["x-kubernetes-patch-merge-key"] != "name" || containers.Extensions["x-kubernetes-patch-strategy"] != "merge" {
		t.Errorf("containers merge by %v", containers.Extensions)
	}
	if f := schemas["io.k8s.api.core.v1.ContainerPort"].Properties["containerPort"]; f.Format != "int32" || f.Type[0] != "integer" {
		t.Errorf("containerPort is %v %s", f.Type, f.Format)
	}
	port := schemas["io.k8s.api.core.v1.ContainerPort"].Properties["protocol"]
	if port.Default != "TCP" || len(port.Enum) != 3 || !strings.Contains(port.Description, "\n - `\"TCP\"` is the TCP protocol.") {
		t.Errorf("the protocol of a port is %v of %v: %s", port.Default, port.Enum, port.Description)
	}
	container := schemas["io.k8s.api.core.v1.Container"]
	if got, _ := json.Marshal(container.Properties["ports"].Extensions); string(got) != `{"x-kubernetes-list-map-keys":["containerPort","protocol"],`+
		`"x-kubernetes-list-type":"map","x-kubernetes-patch-merge-key":"containerPort","x-kubernetes-patch-strategy":"merge"}` {
		t.Errorf("ports are marked %s", got)
	}
	if got := schemas["io.k8s.api.core.v1.NodeSelector"].Extensions["x-kubernetes-map-type"]; got != "atomic" {
		t.Errorf("a node selector's map type is %v", got)
	}
	if got := schemas["io.k8s.api.apps.v1.DeploymentCondition"].Required; len(got) != 0 {
		t.Errorf("a condition needs %v, though its source says optional", got)
	}
	if got := deployment.Required; len(got) != 1 || got[0] != "spec" {
		t.Errorf("a deployment needs %v, though its source says that its spec is required", got)
	}
	if got := schemas["io.k8s.api.apps.v1.DeploymentSpec"].Properties["template"].Default; fmt.Sprint(got) != "map[]" {
		t.Errorf("a template's default is %v", got)
	}
	if q := schemas["io.k8s.apimachinery.pkg.api.resource.Quantity"]; len(q.OneOf) != 2 || q.Type != nil {
		t.Errorf("a quantity is %v, %v", q.Type, q.OneOf)
	}
	if tm := schemas["io.k8s.apimachinery.pkg.apis.meta.v1.Time"]; tm.Format != "date-time" {
		t.Errorf("a time is %q", tm.Format)
	}
	// A reference beside a description would hide it: it stands in allOf.
	if s := deployment.Properties["spec"]; len(s.AllOf) != 1 || s.Ref.String() != "" {
		t.Errorf("spec is %+v", s)
	}
}

func TestV2(t *testing.T) {
	d := docsOfAll(t)
	w := ask(t, d.ServeV2, "/openapi/v2")
	s := &spec.Swagger{}
	if err := json.Unmarshal(w.Body.Bytes(), s); err != nil {
		t.Fatal(err)
	}
	closed(t, w.Body.Bytes(), "#/definitions/", func(name string) bool { _, ok := s.Definitions[name]; return ok })
	for _, path := range []string{"/api/v1/namespaces/{namespace}/pods/{name}", "/api/v1/pods", "/api/v1/nodes/{name}/status", "/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"} {
		if _, ok := s.Paths.Paths[path]; !ok {
			t.Errorf("no %s", path)
		}
	}
	w = ask(t, d.ServeV2, "/openapi/v2", "Accept", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf")
	doc := &openapi_v2.Document{}
	if err := proto.Unmarshal(w.Body.Bytes(), doc); err != nil {
		t.Fatal(err)
	}
	if n := len(doc.GetDefinitions().GetAdditionalProperties()); n != len(s.Definitions) {
		t.Errorf("%d definitions in protobuf, %d in JSON", n, len(s.Definitions))
	}
}

func TestForms(t *testing.T) {
	d := docsOfAll(t)
	const url = "/openapi/v3/apis/coordination.k8s.io/v1"
	plain := ask(t, d.ServeV3, url)
	tag := plain.Header().Get("ETag")

	t.Run("packed", func(t *testing.T) {
		w := ask(t, d.ServeV3, url, "Accept-Encoding", "gzip")
		z, err := gzip.NewReader(w.Body)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(z); err != nil || string(b) != plain.Body.String() {
			t.Errorf("other bytes (%v)", err)
		}
	})
	t.Run("unchanged", func(t *testing.T) {
		if w := ask(t, d.ServeV3, url, "If-None-Match", tag); w.Code != http.StatusNotModified || w.Body.Len() > 0 {
			t.Errorf("code %d and %d bytes", w.Code, w.Body.Len())
		}
	})
	t.Run("an old hash", func(t *testing.T) {
		w := ask(t, d.ServeV3, url+"?hash=OLD")
		if w.Code != http.StatusMovedPermanently || w.Header().Get("Location") != url+"?hash="+strings.Trim(tag, `"`) {
			t.Errorf("code %d to %s", w.Code, w.Header().Get("Location"))
		}
	})
	t.Run("protobuf", func(t *testing.T) {
		w := ask(t, d.ServeV3, url, "Accept", "application/com.github.proto-openapi.spec.v3@v1.0+protobuf")
		if err := proto.Unmarshal(w.Body.Bytes(), &openapi_v3.Document{}); err != nil || w.Header().Get("Content-Type") != protobuf3[0] {
			t.Errorf("%s (%v)", w.Header().Get("Content-Type"), err)
		}
	})
	t.Run("no such group", func(t *testing.T) {
		if w := ask(t, d.ServeV3, "/openapi/v3/apis/no/v1"); w.Code != http.StatusNotFound {
			t.Errorf("code %d", w.Code)
		}
	})
	t.Run("no such form", func(t *testing.T) {
		if w := ask(t, d.ServeV3, url, "Accept", "text/html"); w.Code != http.StatusNotAcceptable {
			t.Errorf("code %d", w.Code)
		}
	})
}

// A resource that comes or goes changes the documents that name it, and their hashes.
func TestFollowsTheRegistry(t *testing.T) {
	reg := registry.New(nowhere{}, resources.Table)
	d := New(reg)
	before := ask(t, d.ServeV3, "/openapi/v3/apis/apps/v1").Header().Get("ETag")
	for _, r := range resources.Table {
		if r.Plural == "replicasets" {
			reg.Remove(r.GVR())
		}
	}
	w := ask(t, d.ServeV3, "/openapi/v3/apis/apps/v1")
	if w.Header().Get("ETag") == before || strings.Contains(w.Body.String(), "/replicasets") {
		t.Error("still describes replica sets")
	}
}

func BenchmarkMakeAll(b *testing.B) {
	for b.Loop() {
		d := docsOfAll(b)
		for path, gv := range d.paths() {
			if _, err := d.v3(path, gv, asJSON); err != nil {
				b.Fatal(err)
			}
		}
	}
}
