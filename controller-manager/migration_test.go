package main

import (
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagemigrationv1 "k8s.io/api/storagemigration/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Migrations of a namespaced and of a cluster's resource, with the rights of the controller's account. What they do to the storage,
// the room's own test shows.
func TestStorageVersionMigrations(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.sub("migrated", func(w *world, ns string) {
		cm := must(w.kube.CoreV1().ConfigMaps(ns).Create(w.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "c"}, Data: map[string]string{"k": "v"}}, metav1.CreateOptions{}))(w)
		must(w.kube.SchedulingV1().PriorityClasses().Create(w.Context(), &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Value: 1}, metav1.CreateOptions{}))(w)
		for name, r := range map[string]metav1.GroupResource{"configmaps": {Resource: "configmaps"}, "priorities": {Group: "scheduling.k8s.io", Resource: "priorityclasses"}} {
			m := &storagemigrationv1.StorageVersionMigration{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: storagemigrationv1.StorageVersionMigrationSpec{Resource: r}}
			must(w.kube.StoragemigrationV1().StorageVersionMigrations().Create(w.Context(), m, metav1.CreateOptions{}))(w)
			w.until(name+" are migrated", func() error {
				m, err := w.kube.StoragemigrationV1().StorageVersionMigrations().Get(w.Context(), name, metav1.GetOptions{})
				if err != nil {
					return err
				}
				if f := meta.FindStatusCondition(m.Status.Conditions, "Failed"); f != nil {
					w.Fatalf("%s: %s", name, f.Message)
				}
				if !meta.IsStatusConditionTrue(m.Status.Conditions, "Succeeded") || m.Status.ResourceVersion == "" {
					return errors.New("not yet")
				}
				return nil
			})
		}
		after := must(w.kube.CoreV1().ConfigMaps(ns).Get(w.Context(), "c", metav1.GetOptions{}))(w)
		if after.ResourceVersion != cm.ResourceVersion || len(after.ManagedFields) != len(cm.ManagedFields) {
			w.Errorf("what is stored well was changed: %+v", after)
		}
		// What cannot be written at all is told at once.
		m := &storagemigrationv1.StorageVersionMigration{ObjectMeta: metav1.ObjectMeta{Name: "reviews"}, Spec: storagemigrationv1.StorageVersionMigrationSpec{
			Resource: metav1.GroupResource{Group: "authentication.k8s.io", Resource: "tokenreviews"}}}
		must(w.kube.StoragemigrationV1().StorageVersionMigrations().Create(w.Context(), m, metav1.CreateOptions{}))(w)
		w.until("reviews have failed", func() error {
			m, err := w.kube.StoragemigrationV1().StorageVersionMigrations().Get(w.Context(), "reviews", metav1.GetOptions{})
			if f := meta.FindStatusCondition(m.Status.Conditions, "Failed"); err == nil && (f == nil || f.Reason != "StorageVersionMigrationFailed" || f.Message != "the resource cannot be listed and patched") {
				err = errors.New("not yet")
			}
			return err
		})
	})
}
