package namespace

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/pkg/client"
)

func TestNamespacesThatOthersLetGoAreForgotten(t *testing.T) {
	indexer := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{})
	now := metav1.Now()
	freed := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "freed", DeletionTimestamp: &now}}
	if err := indexer.Add(freed); err != nil {
		t.Fatal(err)
	}
	c := &controller{namespaces: corelisters.NewNamespaceLister(indexer), tries: map[string]int{}}
	for _, name := range []string{"gone", "freed"} {
		c.pause(name)
		if again, err := c.reconcile(t.Context(), loop.Key{Name: name}); err != nil || again != 0 {
			t.Errorf("%s: again after %v, %v", name, again, err)
		}
	}
	if len(c.tries) != 0 {
		t.Errorf("remembered are %v", c.tries)
	}
}

func TestOneThatCannotBeDeletedKeepsNoOther(t *testing.T) {
	var asked []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
		asked = append(asked, name)
		w.Header().Set("Content-Type", "application/json")
		if name == "a" {
			w.WriteHeader(http.StatusForbidden)
			w.Write([]byte(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403,"message":"refused"}`))
			return
		}
		w.Write([]byte(`{"kind":"Status","apiVersion":"v1","status":"Success"}`))
	}))
	t.Cleanup(s.Close)
	clients, err := client.New(&rest.Config{Host: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	var items []metav1.PartialObjectMetadata
	for _, name := range []string{"a", "b", "c"} {
		items = append(items, metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	c := &controller{t: loop.Tools{Clients: clients}}
	err = c.delete(t.Context(), "ns", kindOf{gvr: schema.GroupVersionResource{Group: "example.com", Version: "v1", Resource: "things"}}, items)
	if err == nil || !strings.Contains(err.Error(), "deleting a: refused") {
		t.Errorf("error %v", err)
	}
	if !slices.Equal(asked, []string{"a", "b", "c"}) {
		t.Errorf("asked to go were %v", asked)
	}
}
