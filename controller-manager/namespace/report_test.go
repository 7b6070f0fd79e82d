package namespace

import (
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestConditions(t *testing.T) {
	held := func(fill func(*report)) *report { r := newReport(); fill(r); return r }
	pods := schema.GroupResource{Resource: "pods"}
	things := schema.GroupResource{Group: "example.com", Resource: "things"}
	items := func(n int, finalizers ...string) []metav1.PartialObjectMetadata {
		list := make([]metav1.PartialObjectMetadata, n)
		for i := range list {
			list[i].Finalizers = finalizers
		}
		return list
	}
	for name, tc := range map[string]struct {
		r    *report
		done bool
		held map[corev1.NamespaceConditionType]string
	}{
		"nothing is left": {newReport(), true, nil},
		"pods are left": {held(func(r *report) { r.left(pods, items(2)) }), false, map[corev1.NamespaceConditionType]string{
			corev1.NamespaceContentRemaining: "Some resources are remaining: pods has 2 resource instances"}},
		"finalizers hold": {held(func(r *report) { r.left(things, items(1, "example.com/hold")); r.left(pods, items(1)) }), false, map[corev1.NamespaceConditionType]string{
			corev1.NamespaceContentRemaining:    "Some resources are remaining: pods has 1 resource instances, things.example.com has 1 resource instances",
			corev1.NamespaceFinalizersRemaining: "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances"}},
		"a kind cannot be deleted": {held(func(r *report) { r.failed(things, errors.New("refused")) }), false, map[corev1.NamespaceConditionType]string{
			corev1.NamespaceDeletionContentFailure: "Failed to delete all resource types, things.example.com: refused"}},
		"a group cannot be discovered": {held(func(r *report) { r.discovery = errors.New("down") }), false, map[corev1.NamespaceConditionType]string{
			corev1.NamespaceDeletionDiscoveryFailure: "Discovery failed for some groups: down"}},
		"it could not for long": {held(func(r *report) { r.discovery, r.waited = errors.New("down"), true }), true, map[corev1.NamespaceConditionType]string{
			corev1.NamespaceDeletionDiscoveryFailure: "Discovery failed for some groups: down"}},
		"for long, and pods are left": {held(func(r *report) { r.discovery, r.waited = errors.New("down"), true; r.left(pods, items(1)) }), false, map[corev1.NamespaceConditionType]string{
			corev1.NamespaceDeletionDiscoveryFailure: "Discovery failed for some groups: down",
			corev1.NamespaceContentRemaining:         "Some resources are remaining: pods has 1 resource instances"}},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.r.done() != tc.done {
				t.Errorf("done is %v", tc.r.done())
			}
			if (tc.r.err() != nil) != (len(tc.r.failures) > 0 || tc.r.discovery != nil) {
				t.Errorf("error %v", tc.r.err())
			}
			got := conditions(nil, tc.r, time.Now())
			for _, c := range got {
				if want, held := tc.held[c.Type]; held != (c.Status == corev1.ConditionTrue) || held && c.Message != want {
					t.Errorf("%s is %s: %s", c.Type, c.Status, c.Message)
				}
			}
			if again := conditions(got, tc.r, time.Now().Add(time.Hour)); fmt.Sprint(again) != fmt.Sprint(got) {
				t.Error("a second look changes the conditions")
			}
		})
	}
	if c := conditions(conditions(nil, held(func(r *report) { r.left(pods, items(1)) }), time.Now()), newReport(), time.Now()); c[3].Status != corev1.ConditionFalse {
		t.Errorf("still held: %+v", c[3])
	}
}

func TestPause(t *testing.T) {
	c := &controller{tries: map[string]int{}}
	first, second := c.pause("a"), c.pause("a")
	for range 100 {
		c.pause("a")
	}
	if first != 250*time.Millisecond || second != 2*first || c.pause("a") != 15*time.Second || c.pause("b") != first {
		t.Errorf("%v %v %v", first, second, c.pause("a"))
	}
}
