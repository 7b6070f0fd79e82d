package clusterrole

import (
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	rbaclisters "k8s.io/client-go/listers/rbac/v1"
	"k8s.io/client-go/tools/cache"

	"pilothouse.dev/controller-manager/loop"
)

func TestWakes(t *testing.T) {
	role := func(name, into, from string) *rbacv1.ClusterRole {
		r := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if into != "" {
			r.Labels = map[string]string{into: "true"}
		}
		if from != "" {
			r.AggregationRule = &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{{MatchLabels: map[string]string{from: "true"}}}}
		}
		return r
	}
	store := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{})
	view, edit := role("view", "to-edit", "to-view"), role("edit", "", "to-edit")
	for _, r := range []*rbacv1.ClusterRole{view, edit, role("plain", "", "")} {
		if err := store.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	c := &controller{roles: rbaclisters.NewClusterRoleLister(store)}
	for name, tc := range map[string]struct {
		e    loop.Event
		want string
	}{
		"a part appears":           {loop.Event{New: role("a", "to-view", "")}, "view"},
		"a part goes":              {loop.Event{Old: role("a", "to-view", "")}, "view"},
		"a part goes over":         {loop.Event{Old: role("a", "to-view", ""), New: role("a", "to-edit", "")}, "edit view"},
		"a whole that is a part":   {loop.Event{Old: view, New: view}, "view edit"},
		"one that concerns nobody": {loop.Event{New: role("a", "", "")}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := map[string]bool{}
			for _, k := range append(aggregated(tc.e), c.selecting(tc.e)...) {
				got[k.Name] = true
			}
			want := strings.Fields(tc.want)
			for _, n := range want {
				if !got[n] {
					t.Errorf("%s sleeps on", n)
				}
			}
			if len(got) != len(want) {
				t.Errorf("woke %v, want %v", got, want)
			}
		})
	}
}
