package served

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"pilothouse.dev/pkg/client"
)

func TestFind(t *testing.T) {
	version := func(v string) metav1.GroupVersionForDiscovery {
		return metav1.GroupVersionForDiscovery{GroupVersion: "example.com/" + v, Version: v}
	}
	list := func(names ...string) metav1.APIResourceList {
		var l metav1.APIResourceList
		for _, n := range names {
			l.APIResources = append(l.APIResources, metav1.APIResource{Name: n, Kind: "Thing", Verbs: []string{"list"}})
		}
		return l
	}
	answers := map[string]any{
		"/api/v1": list("pods"),
		"/apis/example.com": metav1.APIGroup{Name: "example.com", PreferredVersion: version("v2"),
			Versions: []metav1.GroupVersionForDiscovery{version("v3alpha1"), version("v2"), version("v1"), version("v0")}},
		"/apis/example.com/v3alpha1": list("things"),
		"/apis/example.com/v2":       list("things", "things/scale"),
		"/apis/example.com/v1":       list("others"),
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, known := answers[r.URL.Path]
		switch {
		case r.URL.Path == "/apis/broken.example.com":
			http.Error(w, "no", http.StatusInternalServerError)
			return
		case !known:
			http.NotFound(w, r)
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
	for name, tc := range map[string]struct {
		group, resource string
		want            string // versions
		fails           bool
	}{
		"core":                     {"", "pods", "v1 ", false},
		"preferred first":          {"example.com", "things", "v2 v3alpha1 ", false},
		"a subresource":            {"example.com", "things/scale", "v2 ", false},
		"only in a lesser version": {"example.com", "others", "v1 ", false},
		"nowhere":                  {"example.com", "none", "", false},
		"no such group":            {"other.example.com", "things", "", false},
		"nobody knows":             {"broken.example.com", "things", "", true},
	} {
		t.Run(name, func(t *testing.T) {
			found, err := Find(t.Context(), clients.Kube, tc.group, func(r *metav1.APIResource) bool { return r.Name == tc.resource })
			got := ""
			for _, r := range found {
				got += r.Version + " "
			}
			if got != tc.want || (err != nil) != tc.fails {
				t.Errorf("found it in %q (%v), want %q", got, err, tc.want)
			}
		})
	}
}
