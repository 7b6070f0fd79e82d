package namespace

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/pkg/client"
)

// An API server that speaks for two others, which may be away.
func aggregating(t *testing.T) (c *controller, away *atomic.Bool) {
	away = &atomic.Bool{}
	group := func(name string) metav1.APIGroup {
		v := metav1.GroupVersionForDiscovery{GroupVersion: name + "/v1", Version: "v1"}
		return metav1.APIGroup{Name: name, Versions: []metav1.GroupVersionForDiscovery{v}, PreferredVersion: v}
	}
	resource := func(gv, name string, verbs ...string) metav1.APIResourceList {
		return metav1.APIResourceList{GroupVersion: gv, APIResources: []metav1.APIResource{{Name: name, Namespaced: true, Verbs: verbs}}}
	}
	answers := map[string]any{
		"/api":                         metav1.APIVersions{Versions: []string{"v1"}},
		"/apis":                        metav1.APIGroupList{Groups: []metav1.APIGroup{group("metrics.example.com"), group("things.example.com")}},
		"/api/v1":                      resource("v1", "pods", "list", "delete", "deletecollection"),
		"/apis/metrics.example.com/v1": resource("metrics.example.com/v1", "pods", "list", "get"),
		"/apis/things.example.com/v1":  resource("things.example.com/v1", "things", "list", "delete"),
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, known := answers[r.URL.Path]
		if !known || away.Load() && len(r.URL.Path) > len("/api/v1") {
			http.Error(w, "the server is away", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(s.Close)
	clients, err := client.New(&rest.Config{Host: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	return &controller{t: loop.Tools{Clients: clients}, fertile: map[schema.GroupVersion]bool{}}, away
}

// A group that keeps nothing holds nobody up when its server goes; one that may keep something does; and what others keep is known
// in any case.
func TestDeadGroups(t *testing.T) {
	c, away := aggregating(t)
	kinds, unseen, err := c.kinds(t.Context())
	if err != nil || len(kinds) != 2 || len(unseen) != 0 {
		t.Fatalf("found %v, %v, %v", kinds, unseen, err)
	}
	away.Store(true)
	kinds, unseen, err = c.kinds(t.Context())
	if err != nil || len(kinds) != 1 || kinds[0].gvr.Resource != "pods" {
		t.Fatalf("found %v, %v", kinds, err)
	}
	things := schema.GroupVersion{Group: "things.example.com", Version: "v1"}
	if len(unseen) != 1 || unseen[things] == nil {
		t.Errorf("hidden are %v, want %v alone", unseen, things)
	}
	c, away = aggregating(t)
	away.Store(true)
	if _, unseen, err = c.kinds(t.Context()); err != nil || len(unseen) != 2 {
		t.Errorf("of groups never seen %v are hidden (%v), want both", unseen, err)
	}
}
