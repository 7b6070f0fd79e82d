package disruption

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	appslisters "k8s.io/client-go/listers/apps/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"pilothouse.dev/pkg/client"
)

// server knows DaemonSets, which have no scale, and a made-up kind that has one.
func server(t *testing.T) *client.Clients {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var answer any
		switch r.URL.Path {
		case "/apis/apps/v1":
			answer = metav1.APIResourceList{GroupVersion: "apps/v1", APIResources: []metav1.APIResource{
				{Name: "daemonsets", Kind: "DaemonSet"}, {Name: "daemonsets/status", Kind: "DaemonSet"}, {Name: "replicasets", Kind: "ReplicaSet"}, {Name: "replicasets/scale", Kind: "Scale"}}}
		case "/apis/example.com/v2":
			answer = metav1.APIResourceList{GroupVersion: "example.com/v2", APIResources: []metav1.APIResource{
				{Name: "fleets", Kind: "Fleet"}, {Name: "fleets/scale", Kind: "Scale", Group: "autoscaling", Version: "v1"}}}
		case "/apis/example.com/v2/namespaces/ns/fleets/blue/scale":
			answer = map[string]any{"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": map[string]any{"name": "blue", "uid": "fleet"}, "spec": map[string]any{"replicas": 12}}
		case "/apis/example.com/v2/namespaces/ns/fleets/sick/scale":
			w.WriteHeader(http.StatusInternalServerError)
			return
		default:
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusNotFound)
			answer = metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Reason: metav1.StatusReasonNotFound, Code: 404}
			if err := json.NewEncoder(w).Encode(answer); err != nil {
				t.Error(err)
			}
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(s.Close)
	c, err := client.New(&rest.Config{Host: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestExpect(t *testing.T) {
	yes := true
	ref := func(api, kind, name, uid string) []metav1.OwnerReference {
		return []metav1.OwnerReference{{APIVersion: api, Kind: kind, Name: name, UID: types.UID(uid), Controller: &yes}}
	}
	named := func(name, uid string, owner ...metav1.OwnerReference) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(uid), OwnerReferences: owner}
	}
	n := func(i int32) *int32 { return &i }
	indexer := func(objects ...any) cache.Indexer {
		i := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
		for _, o := range objects {
			if err := i.Add(o); err != nil {
				t.Fatal(err)
			}
		}
		return i
	}
	s := &scales{
		clients: server(t), known: map[schema.GroupVersionKind]schema.GroupVersionResource{},
		deployments: appslisters.NewDeploymentLister(indexer(&appsv1.Deployment{ObjectMeta: named("web", "d"), Spec: appsv1.DeploymentSpec{Replicas: n(7)}})),
		sets: appslisters.NewReplicaSetLister(indexer(
			&appsv1.ReplicaSet{ObjectMeta: named("web-1", "rs1", ref("apps/v1", "Deployment", "web", "d")...), Spec: appsv1.ReplicaSetSpec{Replicas: n(2)}},
			&appsv1.ReplicaSet{ObjectMeta: named("web-2", "rs2", ref("apps/v1", "Deployment", "web", "d")...), Spec: appsv1.ReplicaSetSpec{Replicas: n(5)}},
			&appsv1.ReplicaSet{ObjectMeta: named("lost", "rs3", ref("apps/v1", "Deployment", "gone", "g")...), Spec: appsv1.ReplicaSetSpec{Replicas: n(5)}},
			&appsv1.ReplicaSet{ObjectMeta: named("free", "rs4"), Spec: appsv1.ReplicaSetSpec{Replicas: n(4)}},
			&appsv1.ReplicaSet{ObjectMeta: named("led", "rs5", ref("example.com/v2", "Rollout", "r", "r")...), Spec: appsv1.ReplicaSetSpec{Replicas: n(6)}},
		)),
		stateful: appslisters.NewStatefulSetLister(indexer(&appsv1.StatefulSet{ObjectMeta: named("db", "ss"), Spec: appsv1.StatefulSetSpec{Replicas: n(3)}})),
		older:    corelisters.NewReplicationControllerLister(indexer(&corev1.ReplicationController{ObjectMeta: named("old", "rc"), Spec: corev1.ReplicationControllerSpec{Replicas: n(8)}})),
	}
	for name, tc := range map[string]struct {
		owners    [][]metav1.OwnerReference
		pods      int32
		unmanaged int
		fails     string
		lasting   bool
	}{
		"none":                          {},
		"a Deployment of two sets":      {owners: [][]metav1.OwnerReference{ref("apps/v1", "ReplicaSet", "web-1", "rs1"), ref("apps/v1", "ReplicaSet", "web-2", "rs2"), ref("apps/v1", "ReplicaSet", "web-2", "rs2")}, pods: 7},
		"a set of its own":              {owners: [][]metav1.OwnerReference{ref("apps/v1", "ReplicaSet", "free", "rs4")}, pods: 4},
		"a set of somebody else's":      {owners: [][]metav1.OwnerReference{ref("apps/v1", "ReplicaSet", "led", "rs5")}, pods: 6},
		"several":                       {owners: [][]metav1.OwnerReference{ref("apps/v1", "StatefulSet", "db", "ss"), ref("v1", "ReplicationController", "old", "rc")}, pods: 11},
		"some kind":                     {owners: [][]metav1.OwnerReference{ref("example.com/v2", "Fleet", "blue", "fleet"), ref("example.com/v2", "Fleet", "blue", "fleet")}, pods: 12},
		"nobody's":                      {owners: [][]metav1.OwnerReference{nil, ref("apps/v1", "StatefulSet", "db", "ss"), nil}, pods: 3, unmanaged: 2},
		"a set of another life":         {owners: [][]metav1.OwnerReference{ref("apps/v1", "ReplicaSet", "free", "before")}, fails: `found no controllers for pod "0"`, lasting: true},
		"a Deployment that is gone":     {owners: [][]metav1.OwnerReference{ref("apps/v1", "ReplicaSet", "lost", "rs3")}, fails: `no matches for kind "Deployment"`, lasting: true},
		"some kind's that is gone":      {owners: [][]metav1.OwnerReference{ref("example.com/v2", "Fleet", "red", "x")}, fails: `found no controllers for pod "0"`, lasting: true},
		"some kind's, of another life":  {owners: [][]metav1.OwnerReference{ref("example.com/v2", "Fleet", "blue", "x")}, fails: `found no controllers for pod "0"`, lasting: true},
		"a kind without a scale":        {owners: [][]metav1.OwnerReference{ref("apps/v1", "DaemonSet", "d", "x")}, fails: "daemonsets.apps does not implement the scale subresource", lasting: true},
		"a kind that is not there":      {owners: [][]metav1.OwnerReference{ref("example.com/v2", "Boat", "d", "x")}, fails: `no matches for kind "Boat"`, lasting: true},
		"a group that is not there":     {owners: [][]metav1.OwnerReference{ref("example.org/v1", "Boat", "d", "x")}, fails: `no matches for kind "Boat"`, lasting: true},
		"a server that does not answer": {owners: [][]metav1.OwnerReference{ref("example.com/v2", "Fleet", "sick", "x")}, fails: "reading the scale of fleets sick"},
	} {
		t.Run(name, func(t *testing.T) {
			list := pods(strings.Repeat("r", len(tc.owners)))
			for i, o := range tc.owners {
				list[i].OwnerReferences = o
			}
			e, err := s.expect(t.Context(), list)
			if (err == nil) != (tc.fails == "") || err != nil && (!strings.Contains(err.Error(), tc.fails) || lasting(err) != tc.lasting) {
				t.Fatalf("error %v, want one with %q (lasting: %v)", err, tc.fails, tc.lasting)
			}
			if e.pods != tc.pods || e.unmanaged != tc.unmanaged {
				t.Errorf("%+v, want %d pods and %d unmanaged", e, tc.pods, tc.unmanaged)
			}
		})
	}
}
