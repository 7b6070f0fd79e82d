package handlers

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	apidiscovery "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"pilothouse.dev/apiserver/codec"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/resources/apps"
	"pilothouse.dev/apiserver/resources/core"
	"pilothouse.dev/apiserver/resources/events"
	"pilothouse.dev/apiserver/storage"
)

// nowhere is a backend that nobody reads.
type nowhere struct{}

func (nowhere) Store(storage.Kind) storage.Store { return nil }

// discoverers are handlers of a few kinds: two of core with actions and parts, one with a scale, a further version, a virtual.
func discoverers() *Handlers {
	reg := registry.New(nowhere{}, []*registry.Resource{core.Events, core.Pods, core.Namespaces, events.Events, apps.Deployments, late("v1beta1"), late("v2"), late("v1")})
	eviction := schema.GroupVersionKind{Group: "policy", Version: "v1", Kind: "Eviction"}
	pods := reg.Find(schema.GroupVersionResource{Version: "v1", Resource: "pods"})
	pods.Actions["eviction"] = &registry.Action{Name: "eviction", Kind: eviction, Verbs: []string{"create"}}
	return &Handlers{reg: reg}
}

// late is a kind of a group that no list names, in a version.
func late(version string) *registry.Resource {
	r := *core.Namespaces
	r.GVK = schema.GroupVersionKind{Group: "a.example.com", Version: version, Kind: "Thing"}
	r.Plural, r.Virtual, r.Verbs = "things", true, []string{"create"}
	r.Hub = &r
	return &r
}

func discover(t *testing.T, h http.HandlerFunc, path string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h(w, r)
	return w
}

const (
	wholeV2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
	wholeV1 = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
)

func TestGroupsInOrder(t *testing.T) {
	var list metav1.APIGroupList
	w := discover(t, discoverers().Groups(false), "/apis")
	if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, g := range list.Groups {
		var versions []string
		for _, v := range g.Versions {
			versions = append(versions, v.Version)
		}
		got = append(got, g.Name+" "+strings.Join(versions, ",")+" "+g.PreferredVersion.GroupVersion)
	}
	want := []string{"apps v1 apps/v1", "events.k8s.io v1 events.k8s.io/v1", "a.example.com v2,v1,v1beta1 a.example.com/v2"}
	if !slices.Equal(got, want) {
		t.Errorf("groups %q, want %q", got, want)
	}
}

func TestResourcesOfAVersion(t *testing.T) {
	h := discoverers()
	var list metav1.APIResourceList
	w := discover(t, func(w http.ResponseWriter, r *http.Request) { h.GroupVersion(w, r, schema.GroupVersion{Version: "v1"}) }, "/api/v1")
	if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil {
		t.Fatal(err)
	}
	byName := map[string]metav1.APIResource{}
	var names []string
	for _, r := range list.APIResources {
		byName[r.Name] = r
		names = append(names, r.Name)
	}
	if !slices.IsSorted(names) {
		t.Errorf("not by name: %v", names)
	}
	if r := byName["pods"]; r.StorageVersionHash != "xPOwRZ+Yhw8=" || r.SingularName != "pod" || !r.Namespaced || !slices.Equal(r.Categories, []string{"all"}) {
		t.Errorf("pods: %+v", r)
	}
	if r := byName["pods/eviction"]; r.Group != "policy" || r.Version != "v1" || r.Kind != "Eviction" {
		t.Errorf("pods/eviction: %+v", r)
	}
	if r := byName["pods/status"]; r.Group != "" || r.Kind != "Pod" || !slices.Equal(r.Verbs, []string{"get", "patch", "update"}) {
		t.Errorf("pods/status: %+v", r)
	}
	for path, gv := range map[string]schema.GroupVersion{"/apis/a.example.com/v3": {Group: "a.example.com", Version: "v3"}, "/apis/no/v1": {Group: "no", Version: "v1"}} {
		if w := discover(t, func(w http.ResponseWriter, r *http.Request) { h.GroupVersion(w, r, gv) }, path); w.Code != http.StatusNotFound {
			t.Errorf("%s: code %d", path, w.Code)
		}
	}
	if len(h.documents.kept) != 1 {
		t.Errorf("%d documents are kept of one", len(h.documents.kept))
	}
}

func TestDiscoveryForms(t *testing.T) {
	h := discoverers()
	for _, c := range []struct {
		name, accept, want string
		code               int
	}{
		{"no wish", "", codec.JSON, 200},
		{"what client-go asks for", wholeV2 + "," + wholeV1 + ",application/json", wholeV2, 200},
		{"an older client", wholeV1 + ",application/json", codec.JSON, 200},
		{"an older client that takes nothing else", wholeV1, codec.JSON, 406},
		{"rather plain", wholeV2 + ";q=0.5,application/json;q=0.9", codec.JSON, 200},
		{"rather everything", "application/json;q=0.8," + wholeV2, wholeV2, 200},
		{"protobuf of everything", strings.Replace(wholeV2, codec.JSON, codec.Protobuf, 1), strings.Replace(wholeV2, codec.JSON, codec.Protobuf, 1), 200},
		{"protobuf", codec.Protobuf, codec.Protobuf, 200},
		{"a table", "application/json;as=Table;v=v1;g=meta.k8s.io", codec.JSON, 406},
		{"a picture", "image/png", codec.JSON, 406},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := discover(t, h.Groups(false), "/apis", "Accept", c.accept)
			if w.Code != c.code || w.Header().Get("Content-Type") != c.want {
				t.Errorf("code %d and %s", w.Code, w.Header().Get("Content-Type"))
			}
		})
	}
}

func TestAggregated(t *testing.T) {
	h := discoverers()
	w := discover(t, h.Groups(true), "/api", "Accept", wholeV2)
	var list apidiscovery.APIGroupDiscoveryList
	if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Items) != 1 || list.Kind != "APIGroupDiscoveryList" || list.APIVersion != "apidiscovery.k8s.io/v2" {
		t.Fatalf("%+v", list)
	}
	for _, r := range list.Items[0].Versions[0].Resources {
		if r.Resource != "pods" {
			continue
		}
		for _, s := range r.Subresources {
			if s.Subresource == "eviction" && s.ResponseKind.Group != "policy" {
				t.Errorf("eviction: %+v", s.ResponseKind)
			}
		}
		if len(r.Subresources) < 2 || r.ResponseKind.Kind != "Pod" || r.Scope != apidiscovery.ScopeNamespace {
			t.Errorf("%+v", r)
		}
	}
	tag := w.Header().Get("ETag")
	if w := discover(t, h.Groups(true), "/api", "Accept", wholeV2, "If-None-Match", tag); w.Code != http.StatusNotModified || w.Body.Len() > 0 {
		t.Errorf("with its tag: code %d", w.Code)
	}
	h.reg.Remove(schema.GroupVersionResource{Version: "v1", Resource: "events"})
	if w := discover(t, h.Groups(true), "/api", "Accept", wholeV2, "If-None-Match", tag); w.Code != http.StatusOK || strings.Contains(w.Body.String(), `"events"`) {
		t.Errorf("after a resource went: code %d %s", w.Code, w.Body)
	}
}
