package main

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// setClaims are the claims of a namespace, as NAME, or NAME<KIND of its controller.
func (w *world) setClaims(ns string) string {
	w.Helper()
	list, err := w.kube.CoreV1().PersistentVolumeClaims(ns).List(w.Context(), metav1.ListOptions{})
	if err != nil {
		return err.Error()
	}
	var out []string
	for i := range list.Items {
		c := &list.Items[i]
		s := c.Name
		if ref := metav1.GetControllerOfNoCopy(c); ref != nil {
			s += "<" + ref.Kind
		}
		if c.DeletionTimestamp != nil {
			s += ":leaving"
		}
		out = append(out, s)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func (w *world) claimed(ns, claims string) {
	w.Helper()
	w.until("the claims "+claims, func() error {
		if got := w.setClaims(ns); got != claims {
			return fmt.Errorf("claims %s", got)
		}
		return nil
	})
}

func testStatefulClaims(w *world, ns string) {
	quota := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "few"}, Spec: corev1.ResourceQuotaSpec{
		Hard: corev1.ResourceList{corev1.ResourcePersistentVolumeClaims: resource.MustParse("1")}}}
	must(w.kube.CoreV1().ResourceQuotas(ns).Create(w.Context(), quota, metav1.CreateOptions{}))(w)
	w.until("the quota", func() error {
		q, err := w.kube.CoreV1().ResourceQuotas(ns).Get(w.Context(), "few", metav1.GetOptions{})
		if err == nil && len(q.Status.Hard) == 0 {
			err = fmt.Errorf("it is not counted yet")
		}
		return err
	})
	w.makeSet(ns, stateful(2, withClaims))
	w.settled(ns, "web-0=v1")
	w.saidOf(ns, "SuccessfulCreate", "create Claim data-web-0 Pod web-0 in StatefulSet web success")
	refused := `persistentvolumeclaims "data-web-1" is forbidden: exceeded quota: few, requested: persistentvolumeclaims=1, used: persistentvolumeclaims=1, limited: persistentvolumeclaims=1`
	w.saidOf(ns, "FailedCreate", "create Claim data-web-1 for Pod web-1 in StatefulSet web failed error: "+refused)
	w.saidOf(ns, "FailedCreate", "create Pod web-1 in StatefulSet web failed error: failed to create PVC data-web-1: "+refused)
	if err := w.kube.CoreV1().ResourceQuotas(ns).Delete(w.Context(), "few", metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
	w.settled(ns, "web-0=v1 web-1=v1") // by trying again
	w.claimed(ns, "data-web-0 data-web-1")
	c := must(w.kube.CoreV1().PersistentVolumeClaims(ns).Get(w.Context(), "data-web-1", metav1.GetOptions{}))(w)
	if c.Labels["app"] != "web" {
		w.Errorf("labels of the claim %v", c.Labels)
	}
	p := must(w.kube.CoreV1().Pods(ns).Get(w.Context(), "web-1", metav1.GetOptions{}))(w)
	if i := slices.IndexFunc(p.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == "data" }); i < 0 || p.Spec.Volumes[i].PersistentVolumeClaim.ClaimName != "data-web-1" {
		w.Errorf("volumes of web-1: %+v", p.Spec.Volumes)
	}
	// Retained by default, and found again.
	w.scaleSet(ns, 0)
	w.settled(ns, "")
	w.claimed(ns, "data-web-0 data-web-1")
	w.scaleSet(ns, 1)
	w.settled(ns, "web-0=v1")
	// A claim that is being deleted is waited for, then made anew.
	before := must(w.kube.CoreV1().PersistentVolumeClaims(ns).Get(w.Context(), "data-web-0", metav1.GetOptions{}))(w)
	if err := w.kube.CoreV1().PersistentVolumeClaims(ns).Delete(w.Context(), "data-web-0", metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
	w.claimed(ns, "data-web-0:leaving data-web-1") // its pod uses it
	if err := w.kube.CoreV1().Pods(ns).Delete(w.Context(), "web-0", metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
	w.claimed(ns, "data-web-0 data-web-1")
	w.settled(ns, "web-0=v1")
	if after := must(w.kube.CoreV1().PersistentVolumeClaims(ns).Get(w.Context(), "data-web-0", metav1.GetOptions{}))(w); after.UID == before.UID {
		w.Error("the claim that was deleted is still there")
	}
}

func testStatefulRetention(w *world, ns string) {
	policy := func(deleted, scaled string) string {
		return fmt.Sprintf(`{"spec":{"persistentVolumeClaimRetentionPolicy":{"whenDeleted":%q,"whenScaled":%q}}}`, deleted, scaled)
	}
	w.makeSet(ns, stateful(3, withClaims))
	w.settled(ns, "web-0=v1 web-1=v1 web-2=v1")
	w.claimed(ns, "data-web-0 data-web-1 data-web-2")
	w.patchSet(ns, policy("Delete", "Retain"))
	w.claimed(ns, "data-web-0<StatefulSet data-web-1<StatefulSet data-web-2<StatefulSet")
	w.patchSet(ns, policy("Retain", "Delete"))
	w.claimed(ns, "data-web-0 data-web-1 data-web-2")
	w.scaleSet(ns, 2)
	w.settled(ns, "web-0=v1 web-1=v1")
	w.claimed(ns, "data-web-0 data-web-1")
	w.patchSet(ns, policy("Delete", "Delete"))
	w.claimed(ns, "data-web-0<StatefulSet data-web-1<StatefulSet")
	w.scaleSet(ns, 3)
	w.claimed(ns, "data-web-0<StatefulSet data-web-1<StatefulSet data-web-2<StatefulSet")
	w.settled(ns, "web-0=v1 web-1=v1 web-2=v1")
	// An update is no scaling: the claims stay the same.
	before := must(w.kube.CoreV1().PersistentVolumeClaims(ns).Get(w.Context(), "data-web-2", metav1.GetOptions{}))(w)
	w.patchSet(ns, image("v2"))
	w.settled(ns, "web-0=v2 web-1=v2 web-2=v2")
	if after := must(w.kube.CoreV1().PersistentVolumeClaims(ns).Get(w.Context(), "data-web-2", metav1.GetOptions{}))(w); after.UID != before.UID {
		w.Error("an update took a claim away")
	}
	w.scaleSet(ns, 1)
	w.settled(ns, "web-0=v2")
	w.claimed(ns, "data-web-0<StatefulSet")
	// Down and up at once: what the pod leaves is never what the next one gets half deleted.
	w.patchSet(ns, `{"spec":{"replicas":2}}`)
	w.settled(ns, "web-0=v2 web-1=v2")
	w.scaleSet(ns, 1)
	w.scaleSet(ns, 2)
	w.settled(ns, "web-0=v2 web-1=v2")
	w.claimed(ns, "data-web-0<StatefulSet data-web-1<StatefulSet")
	w.kubectl(ns, "delete", "sts", "web")
	w.claimed(ns, "")
}
