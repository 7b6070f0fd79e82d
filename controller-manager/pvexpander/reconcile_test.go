package pvexpander

import (
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"pilothouse.dev/controller-manager/loop"
)

func claim(wants, has string, change ...func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "c", UID: "c1"}}
	c.Spec.VolumeName = "v"
	c.Spec.Resources.Requests = corev1.ResourceList{"storage": resource.MustParse(wants)}
	c.Status.Phase = corev1.ClaimBound
	c.Status.Capacity = corev1.ResourceList{"storage": resource.MustParse(has)}
	for _, f := range change {
		f(c)
	}
	return c
}

func volume(size string, change ...func(*corev1.PersistentVolume)) *corev1.PersistentVolume {
	v := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "v"}}
	v.Spec.Capacity = corev1.ResourceList{"storage": resource.MustParse(size)}
	v.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "ns", Name: "c", UID: "c1"}
	for _, f := range change {
		f(v)
	}
	return v
}

func local(v *corev1.PersistentVolume) {
	v.Annotations = map[string]string{"pv.kubernetes.io/provisioned-by": "pilothouse.dev/local-path"}
	v.Spec.Local = &corev1.LocalVolumeSource{Path: "/x"}
}

// TestCacheBehind is a claim that is bound, though the cache of volumes does not say so yet: nothing else would wake it.
func TestCacheBehind(t *testing.T) {
	for _, tc := range []struct {
		name   string
		claim  *corev1.PersistentVolumeClaim
		volume *corev1.PersistentVolume
		behind bool
	}{
		{"no volume yet", claim("2Gi", "1Gi"), nil, true},
		{"a volume of nobody yet", claim("2Gi", "1Gi"), volume("1Gi", local, func(v *corev1.PersistentVolume) { v.Spec.ClaimRef = nil }), true},
		{"its volume", claim("2Gi", "1Gi"), volume("1Gi"), false},
		{"no volume, and it wants nothing", claim("1Gi", "1Gi"), nil, false},
		{"it is lost", claim("2Gi", "1Gi", func(c *corev1.PersistentVolumeClaim) { c.Status.Phase = corev1.ClaimLost }), nil, false},
	} {
		claims, volumes := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{}), cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{})
		if err := claims.Add(tc.claim); err != nil {
			t.Fatal(err)
		}
		if tc.volume != nil {
			if err := volumes.Add(tc.volume); err != nil {
				t.Fatal(err)
			}
		}
		c := &controller{claims: corelisters.NewPersistentVolumeClaimLister(claims), volumes: corelisters.NewPersistentVolumeLister(volumes),
			told: map[loop.Key]string{}, t: loop.Tools{Recorder: record.NewFakeRecorder(1)}}
		if _, err := c.reconcile(t.Context(), loop.KeyOf(tc.claim)); errors.Is(err, loop.ErrStale) != tc.behind || err != nil && !tc.behind {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

func TestDecide(t *testing.T) {
	for _, tc := range []struct {
		name          string
		claim         *corev1.PersistentVolumeClaim
		volume        *corev1.PersistentVolume
		others        bool
		volumeToClaim [2]string // capacities; empty: nothing is written
	}{
		{name: "as much as it wants", claim: claim("1Gi", "1Gi"), volume: volume("1Gi", local)},
		{name: "less than it has", claim: claim("1Gi", "2Gi"), volume: volume("2Gi", local)},
		{name: "not bound", claim: claim("2Gi", "1Gi", func(c *corev1.PersistentVolumeClaim) { c.Status.Phase = corev1.ClaimPending }), volume: volume("1Gi", local)},
		{name: "its volume is gone", claim: claim("2Gi", "1Gi")},
		{name: "its volume is another's", claim: claim("2Gi", "1Gi"), volume: volume("1Gi", local, func(v *corev1.PersistentVolume) { v.Spec.ClaimRef.UID = "c2" })},
		{name: "a driver's", claim: claim("2Gi", "1Gi"), volume: volume("1Gi", func(v *corev1.PersistentVolume) {
			v.Spec.CSI = &corev1.CSIPersistentVolumeSource{Driver: "d"}
		}), others: true},
		{name: "made by hand", claim: claim("2Gi", "1Gi"), volume: volume("1Gi", func(v *corev1.PersistentVolume) {
			v.Spec.Local = &corev1.LocalVolumeSource{Path: "/x"}
		}), others: true},
		{name: "ours", claim: claim("2Gi", "1Gi"), volume: volume("1Gi", local), volumeToClaim: [2]string{"2Gi", "2Gi"}},
		{name: "ours, the volume is done", claim: claim("2Gi", "1Gi"), volume: volume("2Gi", local), volumeToClaim: [2]string{"2Gi", "2Gi"}},
		{name: "ours, the volume is larger anyway", claim: claim("2Gi", "1Gi"), volume: volume("5Gi", local), volumeToClaim: [2]string{"5Gi", "2Gi"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := decide(tc.claim, tc.volume)
			var got [2]string
			if p.claim != nil {
				got = [2]string{p.volume.Spec.Capacity.Storage().String(), p.claim.Status.Capacity.Storage().String()}
			}
			if p.others != tc.others || got != tc.volumeToClaim {
				t.Errorf("others %v, capacities %q", p.others, got)
			}
		})
	}
}

func TestConditionsEnd(t *testing.T) {
	c := claim("2Gi", "1Gi", func(c *corev1.PersistentVolumeClaim) {
		c.Status.Conditions = []corev1.PersistentVolumeClaimCondition{
			{Type: corev1.PersistentVolumeClaimResizing}, {Type: "Other"}, {Type: corev1.PersistentVolumeClaimFileSystemResizePending}}
		c.Status.AllocatedResources = corev1.ResourceList{"storage": resource.MustParse("1500Mi")}
		c.Status.AllocatedResourceStatuses = map[corev1.ResourceName]corev1.ClaimResourceStatus{"storage": corev1.PersistentVolumeClaimControllerResizeInProgress}
	})
	s := decide(c, volume("1Gi", local)).claim.Status
	if len(s.Conditions) != 1 || s.Conditions[0].Type != "Other" || len(s.AllocatedResourceStatuses) != 0 || s.AllocatedResources.Storage().String() != "2Gi" {
		t.Errorf("%+v", s)
	}
	if len(c.Status.Conditions) != 3 {
		t.Error("the claim that was read has been changed")
	}
}

func TestGrowing(t *testing.T) {
	small, large := claim("1Gi", "1Gi"), claim("2Gi", "1Gi")
	for _, tc := range []struct {
		name string
		e    loop.Event
		want int
	}{
		{"content", loop.Event{New: small}, 0},
		{"wants more", loop.Event{Old: small, New: large}, 1},
		{"was served", loop.Event{Old: large, New: small}, 1},
		{"gone", loop.Event{Old: large}, 1},
	} {
		if got := growing(tc.e); len(got) != tc.want {
			t.Errorf("%s: wakes %v", tc.name, got)
		}
	}
}
